"""Adds a person to an address book file.

Run it and answer its questions, or answer them beforehand:

    python -m protobuf_demo.add_person build/addressbook.data
    python -m protobuf_demo.add_person build/addressbook.data --id 1 --name 'Ada Lovelace'
"""

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from protobuf_demo import address_book, terminal
from protobuf_demo.addressbook_pb2 import AddressBook, Person

with suppress(ImportError):  # Some builds of Python come without it.
    import readline  # noqa: F401 - gives input() the arrow keys.

T = TypeVar("T")


def read_answer(question: str) -> str:
    """Asks a question. Raises OSError if it cannot be printed, which input() alone ignores."""
    try:
        return input(question)
    finally:
        sys.stdout.flush()


def ask(question: str, convert: Callable[[str], T]) -> T:
    """Asks a question until convert accepts the answer. Raises EOFError or OutputError."""
    if sys.stdin is None or sys.stdout is None:  # Closed before we started, as by `<&-`.
        raise EOFError
    while True:
        try:
            return convert(read_answer(question))
        except ValueError as error:
            print(f"{error}; once more, please", file=sys.stderr)
        except OSError as error:
            terminal.discard_output()
            raise terminal.OutputError(error) from None


def ask_for_phones() -> list[Person.PhoneNumber]:
    """Asks for phones until one is left blank."""
    phones: list[Person.PhoneNumber] = []
    while number := ask("Enter a phone number (or leave blank to finish): ", address_book.to_text):
        kind = ask("Is this a mobile, home, or work phone? ", address_book.to_phone_type)
        phones.append(Person.PhoneNumber(number=number, type=kind))
    return phones


def ask_for_id(book: AddressBook) -> int:
    """Asks for an id that nobody in the book has."""

    def to_new_id(answer: str) -> int:
        number = address_book.to_id(answer)
        if any(person.id == number for person in book.people):
            raise address_book.DuplicateIdError(f"id {number} is taken")
        return number

    return ask("Enter person ID number: ", to_new_id)


def person_from(args: argparse.Namespace, book: AddressBook) -> Person:
    """Makes the person from the command line, and asks for what it leaves out.

    Raises DuplicateIdError if the id is taken, EOFError if the answers end too early.
    """
    if any(other.id == args.id for other in book.people):  # Checked before anything is asked.
        raise address_book.DuplicateIdError(f"id {args.id} is taken")
    interactive = args.id is None or args.name is None
    number = ask_for_id(book) if args.id is None else args.id
    name = ask("Enter name: ", address_book.to_name) if args.name is None else args.name
    email, phones = args.email or "", args.phone or []
    if interactive and args.email is None:
        email = ask("Enter email address (blank for none): ", address_book.to_text)
    if interactive and args.phone is None:
        phones = ask_for_phones()
    person = Person(id=number, name=name, email=email, phones=phones)
    person.last_updated.GetCurrentTime()
    return person


def store(file: Path, person: Person, *, may_ask: bool) -> None:
    """Adds the person; if someone else took the id while we asked, asks for another.

    Raises OSError, or ValueError if the file is refused or may_ask is false.
    """
    while True:
        try:
            return address_book.add(file, person)
        except address_book.DuplicateIdError as error:
            if not may_ask:
                raise
            print(f"{error}; once more, please", file=sys.stderr)
            person.id = ask_for_id(address_book.read(file))


def argument(convert: Callable[[str], T]) -> Callable[[str], T]:
    """Wraps convert so that argparse shows its error message."""

    def convert_argument(value: str) -> T:
        try:
            return convert(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert_argument


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Add a person to an address book. Without --id and --name it asks.",
    )
    parser.add_argument("file", type=Path, help="the address book; created if it does not exist")
    parser.add_argument("--id", type=argument(address_book.to_id), help="a number nobody has yet")
    parser.add_argument("--name", type=argument(address_book.to_name))
    parser.add_argument("--email", type=argument(address_book.to_text))
    parser.add_argument(
        "--phone",
        type=argument(address_book.to_phone),
        action="append",
        metavar="TYPE:NUMBER",
        help="TYPE is mobile, home or work; may be repeated",
    )
    args = parser.parse_args()
    try:
        if args.file.exists():
            book = address_book.read(args.file)
        elif args.file.parent.is_dir():
            print(f"{args.file}: not found, making a new file", file=sys.stderr)
            book = AddressBook()
        else:
            raise ValueError("its folder does not exist")
        person = person_from(args, book)
        # Nothing is written before this line. After it, Ctrl-C ends the program silently: whether
        # the person has been added then depends on the moment; the file is whole in any case.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        store(args.file, person, may_ask=args.id is None)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was changed", file=sys.stderr)
        sys.exit(130)
    except EOFError:
        sys.exit("\nerror: the answers ended too early; nothing was changed")
    except terminal.OutputError as error:
        sys.exit(f"error: {error}; nothing was changed")
    except OSError as error:
        sys.exit(f"error: {args.file}: {error.strerror}")
    except (RuntimeError, ValueError) as error:  # RuntimeError: a link that leads to itself.
        sys.exit(f"error: {args.file}: {error}")
    try:
        terminal.show(terminal.escaped(f"added {person.name} to {args.file}"))
    except terminal.OutputError as error:
        sys.exit(f"error: the person was added, but {error}")


if __name__ == "__main__":
    main()
