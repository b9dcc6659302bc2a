"""The address book: checks a person's values, and keeps people in a crash-safe file.

The file is a plain serialized AddressBook, so any program that knows the contract can read it.
"""

import fcntl
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from protobuf_demo.addressbook_pb2 import AddressBook, Person

MAX_ID = 2**31 - 1
"""The largest int32."""


class DuplicateIdError(ValueError):
    """The address book already has a person with this id."""


def to_id(value: str) -> int:
    """Converts to a person's id, 1 to MAX_ID. Raises ValueError for anything else.

    0 is refused, because it is what a person without an id has.
    """
    if not re.fullmatch(r"[0-9]{1,10}", value.strip()) or not 1 <= int(value) <= MAX_ID:
        raise ValueError(f"an id is a whole number from 1 to {MAX_ID}, not {value!r}")
    return int(value)


def to_text(value: str) -> str:
    """Strips one line of text in any script. Raises ValueError for other text."""
    # Control characters, half characters (bytes that were not UTF-8), line and paragraph breaks.
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        raise ValueError(f"not one line of UTF-8 text: {value!r}")
    return value.strip()


def to_name(value: str) -> str:
    """Converts to a person's name. Raises ValueError if it is empty or not text."""
    if not to_text(value):
        raise ValueError("a name may not be empty")
    return to_text(value)


def to_phone_type(value: str) -> Person.PhoneType.ValueType:
    """Converts mobile, home or work, in any case. Raises ValueError for anything else."""
    try:
        return Person.PhoneType.Value(value.strip().upper())
    except ValueError:
        raise ValueError(f"a phone is mobile, home or work, not {value!r}") from None


def to_phone(value: str) -> Person.PhoneNumber:
    """Converts a phone written TYPE:NUMBER. Raises ValueError for anything else."""
    kind, _, number = value.partition(":")
    if not to_text(number):
        raise ValueError(f"a phone is written TYPE:NUMBER, not {value!r}")
    return Person.PhoneNumber(type=to_phone_type(kind), number=to_text(number))


def parse(data: bytes) -> AddressBook:
    """Parses an address book. Raises ValueError if data is something else.

    Unknown fields of a person are kept: a newer program wrote them. At the top, where no field was
    ever added, they are a sign that this is another kind of file.
    """
    try:
        book = AddressBook.FromString(data)
    except DecodeError:
        raise ValueError("not an address book, or damaged") from None
    if len(UnknownFieldSet(book)) > 0:
        raise ValueError("not an address book: it has fields that AddressBook does not define")
    return book


def read(path: Path) -> AddressBook:
    """Reads the address book in a file. Raises OSError, or ValueError if it is something else."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")  # Never replace a device such as /dev/null.
    return parse(path.read_bytes())


def add(path: Path, person: Person) -> None:
    """Adds a person to the address book in a file, which is created if it does not exist.

    Safe against a crash and against others who add at the same time. Raises OSError,
    DuplicateIdError, or ValueError if the file is something else; the file is then unchanged.
    """
    path = path.resolve()  # If path is a link, replace the file it leads to, not the link.
    with locked(path.parent) as directory:
        book = read(path) if path.exists() else AddressBook()
        if any(other.id == person.id for other in book.people):
            raise DuplicateIdError(f"id {person.id} is taken")
        book.people.append(person)
        replace(path, book.SerializeToString())
        os.fsync(directory)  # Only now is the new name on disk, too.


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Holds the lock of a directory, and yields its file descriptor.

    The address book itself cannot carry the lock, since each change replaces it by a new file. This
    works on a local file system; a network file system may not lock folders.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Replaces a file in one step: a reader sees the old content or the new, never a mix.

    An existing file keeps its mode. A new one is for its owner only: it holds personal data.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # Left behind by a process that was killed.
    try:
        # Private from the start: a process that opened it before fchmod could read on after it.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
