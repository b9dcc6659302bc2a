"""The address book: what a person may be, and the file that is never harmed.

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
    """The address book has a person with this id already."""


def to_id(value: str) -> int:
    """A person's id, 1 to MAX_ID. Raises ValueError for anything else.

    0 is left out: it is what a person without an id has.
    """
    if not re.fullmatch(r"[0-9]{1,10}", value.strip()) or not 1 <= int(value) <= MAX_ID:
        raise ValueError(f"an id is a whole number from 1 to {MAX_ID}, not {value!r}")
    return int(value)


def to_text(value: str) -> str:
    """One line of text in any script, without space around it. Raises ValueError for other text."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
        raise ValueError(f"not one line of UTF-8 text: {value!r}")
    return value.strip()


def to_name(value: str) -> str:
    """A person's name. Raises ValueError when it is empty or not text."""
    if not to_text(value):
        raise ValueError("a name may not be empty")
    return to_text(value)


def to_phone_type(value: str) -> Person.PhoneType.ValueType:
    """MOBILE, HOME or WORK, in any case. Raises ValueError for anything else."""
    try:
        return Person.PhoneType.Value(value.strip().upper())
    except ValueError:
        raise ValueError(f"a phone is mobile, home or work, not {value!r}") from None


def to_phone(value: str) -> Person.PhoneNumber:
    """A phone written TYPE:NUMBER. Raises ValueError when it is not."""
    kind, _, number = value.partition(":")
    if not to_text(number):
        raise ValueError(f"a phone is written TYPE:NUMBER, not {value!r}")
    return Person.PhoneNumber(type=to_phone_type(kind), number=to_text(number))


def parse(data: bytes) -> AddressBook:
    """The address book that data holds. Raises ValueError when data is something else.

    Unknown fields of a person are kept: a newer program wrote them. At the top, where nothing was
    ever added, they are a sign that this is another kind of file.
    """
    try:
        book = AddressBook.FromString(data)
    except DecodeError:
        raise ValueError("not an address book, or damaged") from None
    if len(UnknownFieldSet(book)) > 0:
        raise ValueError("not an address book: it has fields that an address book has not")
    return book


def read(path: Path) -> AddressBook:
    """The address book in a file. Raises OSError, or ValueError when it is something else."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")  # To replace /dev/null would be a pity.
    return parse(path.read_bytes())


def add(path: Path, person: Person) -> None:
    """Adds a person to the address book in a file, which is made when it is not there.

    Safe against a crash and against others who add at the same time. Raises OSError,
    DuplicateIdError, or ValueError when the file is something else; the file is then as it was.
    """
    path = path.resolve()  # Where path is a link, the file it leads to is replaced, not the link.
    with locked(path.parent) as directory:
        book = read(path) if path.exists() else AddressBook()
        if any(other.id == person.id for other in book.people):
            raise DuplicateIdError(f"id {person.id} is taken")
        book.people.append(person)
        replace(path, book.SerializeToString())
        os.fsync(directory)  # Only now is the new name on disk, too.


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Holds the lock of a directory, and gives its file descriptor.

    The address book itself cannot carry the lock, since each change replaces it by a new file. Good
    on a local file system; a network file system may not lock folders.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def replace(path: Path, data: bytes) -> None:
    """Puts data in the file's place: whoever reads meets the old file or the new, never a mix."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # Left there by a process that was killed.
    try:
        with temporary.open("xb") as file:
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
