"""Lists the people in an address book file.

Run it:

    python -m protobuf_demo.list_people build/addressbook.data
    python -m protobuf_demo.list_people build/addressbook.data --format json
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format, text_format
from google.protobuf.timestamp_pb2 import Timestamp

from protobuf_demo import address_book
from protobuf_demo.addressbook_pb2 import AddressBook, Person
from protobuf_demo.terminal import OutputError, escaped, show

PHONES = {Person.MOBILE: "Mobile", Person.HOME: "Home", Person.WORK: "Work"}


def time_text(time: Timestamp) -> str:
    """Returns the time in RFC 3339, or its raw seconds if it is outside the years 1 to 9999."""
    try:
        return time.ToJsonString()
    except ValueError:
        return f"{time.seconds} s after 1970"


def as_text(book: AddressBook) -> str:
    """Lists the people as protobuf's tutorial does."""
    lines = []
    for person in book.people:
        lines.append(f"Person ID: {person.id}")
        lines.append(f"  Name: {escaped(person.name)}")
        if person.email:
            lines.append(f"  E-mail address: {escaped(person.email)}")
        for phone in person.phones:
            # An open enum may hold a number that only a newer contract has a name for.
            kind = PHONES.get(phone.type, f"Type {phone.type}")
            lines.append(f"  {kind} phone #: {escaped(phone.number)}")
        if person.HasField("last_updated"):
            lines.append(f"  Updated: {time_text(person.last_updated)}")
    return "\n".join(lines)


def as_json(book: AddressBook) -> str:
    """Formats the book in protobuf's JSON mapping. Raises ValueError for a time out of range."""
    listing = json_format.MessageToJson(book, ensure_ascii=False)
    return escaped_lines(listing, lambda character: json.dumps(character)[1:-1])


def as_textproto(book: AddressBook) -> str:
    """Formats the book in protobuf's text format."""
    listing = text_format.MessageToString(book, as_utf8=True).rstrip("\n")
    return escaped_lines(
        listing, lambda character: "".join(f"\\{byte:03o}" for byte in character.encode())
    )


def escaped_lines(text: str, escape: Callable[[str], str]) -> str:
    """Escapes each line of a format in which every line break is the format's own."""
    return "\n".join(escaped(line, escape) for line in text.split("\n"))


FORMATS = {"text": as_text, "json": as_json, "textproto": as_textproto}


def main() -> None:
    parser = argparse.ArgumentParser(description="List the people in an address book.")
    parser.add_argument("file", type=Path, help="the address book")
    parser.add_argument("--format", choices=FORMATS, default="text", help="(default: %(default)s)")
    args = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends us without a traceback.
    try:
        listing = FORMATS[args.format](address_book.read(args.file))
        if listing:
            show(listing)
    except OutputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {args.file}: {error.strerror}")
    except (ValueError, json_format.Error) as error:
        sys.exit(f"error: {args.file}: {error}")


if __name__ == "__main__":
    main()
