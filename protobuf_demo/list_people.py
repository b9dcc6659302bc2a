"""Lists the people in an address book file.

Run it:

    python -m protobuf_demo.list_people build/addressbook.data
    python -m protobuf_demo.list_people build/addressbook.data --format json
"""

import argparse
import signal
import sys
import unicodedata
from pathlib import Path

from google.protobuf import json_format, text_format
from google.protobuf.timestamp_pb2 import Timestamp

from protobuf_demo import address_book
from protobuf_demo.addressbook_pb2 import AddressBook, Person

PHONES = {Person.MOBILE: "Mobile", Person.HOME: "Home", Person.WORK: "Work"}


def printable(text: str) -> str:
    """Text without what could steer the terminal: anyone may have written the file."""
    return "".join(
        f"\\x{ord(character):02x}" if unicodedata.category(character) == "Cc" else character
        for character in text
    )


def time_text(time: Timestamp) -> str:
    """The time in RFC 3339, or its raw seconds when it is out of the range of years 1 to 9999."""
    try:
        return time.ToJsonString()
    except ValueError:
        return f"{time.seconds} s after 1970"


def as_text(book: AddressBook) -> str:
    """The people as protobuf's tutorial lists them."""
    lines = []
    for person in book.people:
        lines.append(f"Person ID: {person.id}")
        lines.append(f"  Name: {printable(person.name)}")
        if person.email:
            lines.append(f"  E-mail address: {printable(person.email)}")
        for phone in person.phones:
            # An open enum may hold a number that a newer contract has a name for.
            kind = PHONES.get(phone.type, f"Type {phone.type}")
            lines.append(f"  {kind} phone #: {printable(phone.number)}")
        if person.HasField("last_updated"):
            lines.append(f"  Updated: {time_text(person.last_updated)}")
    return "\n".join(lines)


def as_json(book: AddressBook) -> str:
    """The people in protobuf's JSON mapping. Raises ValueError for a time it cannot say."""
    return json_format.MessageToJson(book, ensure_ascii=False)


def as_textproto(book: AddressBook) -> str:
    """The people in protobuf's text format."""
    return text_format.MessageToString(book, as_utf8=True).rstrip("\n")


FORMATS = {"text": as_text, "json": as_json, "textproto": as_textproto}


def main() -> None:
    parser = argparse.ArgumentParser(description="List the people in an address book.")
    parser.add_argument("file", type=Path, help="the address book")
    parser.add_argument("--format", choices=FORMATS, default="text", help="(default: %(default)s)")
    args = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends us without a traceback.
    try:
        listing = FORMATS[args.format](address_book.read(args.file))
    except OSError as error:
        sys.exit(f"error: {args.file}: {error.strerror}")
    except (ValueError, json_format.Error) as error:
        sys.exit(f"error: {args.file}: {error}")
    print(listing, end="\n" if listing else "")


if __name__ == "__main__":
    main()
