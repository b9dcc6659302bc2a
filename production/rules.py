"""What a contact and a request must be. Every mistake of a request is found, not only the first."""

import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from protobuf_demo.addressbook_pb2 import Person

MAX_TEXT = 200
"""The longest name, e-mail address or phone number, in characters."""
MAX_PHONES = 20
MAX_VIOLATIONS = 100
"""More than a reply has room for; a request of 1 MiB can hold half a million mistakes."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
CONTACT_ID = re.compile(r"[a-z][a-z0-9-]{2,61}[a-z0-9]")
"""AIP-122. A UUID that begins with a digit is the server's alone to give."""

NEVER_CHANGED = {"name", "etag", "create_time", "update_time"}
"""Fields of a contact that are ignored in a mask, not refused: a caller may send back all that it
has read (AIP-203)."""


class Violation(NamedTuple):
    """A field of the request, as a path, and what is wrong with it."""

    field: str
    description: str


class InvalidError(Exception):
    """A request is not as it must be; violations tells all that is wrong."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{field}: {what}" for field, what in violations))
        self.violations = violations


def check(*checks: Iterator[Violation]) -> None:
    """Raises InvalidError with what all checks found, up to a limit, if they found anything."""
    violations = list(islice(chain.from_iterable(checks), MAX_VIOLATIONS))
    if violations:
        raise InvalidError(*violations)


def check_person(person: Person, path: str) -> Iterator[Violation]:
    """What is wrong with a person, whose fields are named below path."""
    if not person.name.strip():
        yield Violation(f"{path}.name", "may not be empty")
    yield from check_text(person.name, f"{path}.name")
    yield from check_text(person.email, f"{path}.email")
    if len(person.phones) > MAX_PHONES:
        yield Violation(f"{path}.phones", f"may be {MAX_PHONES} at most, not {len(person.phones)}")
    for index, phone in enumerate(person.phones[:MAX_PHONES]):
        if not phone.number.strip():
            yield Violation(f"{path}.phones[{index}].number", "may not be empty")
        yield from check_text(phone.number, f"{path}.phones[{index}].number")


def check_text(text: str, field: str) -> Iterator[Violation]:
    """Text may be in any script, but is one line without control characters, and not endless."""
    if len(text) > MAX_TEXT:
        yield Violation(field, f"may have {MAX_TEXT} characters, not {len(text)}")
    elif CONTROL.search(text):
        yield Violation(field, "may not have control characters")


def check_contact_id(contact_id: str) -> Iterator[Violation]:
    """A caller's own choice of an id; empty leaves the choice to the server."""
    if contact_id and not CONTACT_ID.fullmatch(contact_id):
        what = "must be 4 to 63 lower-case letters, digits and hyphens, beginning with a letter"
        yield Violation("contact_id", what)


def check_request_id(request_id: str) -> Iterator[Violation]:
    """A UUID, or empty."""
    if request_id:
        try:
            uuid.UUID(request_id)
        except ValueError:
            yield Violation("request_id", "must be a UUID")


def check_page_size(page_size: int) -> Iterator[Violation]:
    """0 leaves the size to the server; a large one is served as the largest (AIP-158)."""
    if page_size < 0:
        yield Violation("page_size", "may not be negative")


def check_mask(paths: Iterable[str]) -> Iterator[Violation]:
    """A field mask for an update: person, or fields of it."""
    for path in paths:
        field = path.removeprefix("person.")
        if path != "person" and (field == path or field not in Person.DESCRIPTOR.fields_by_name):
            yield Violation("update_mask", f"cannot change {path[:MAX_TEXT]!r}")


def contact_id_of(name: str, field: str = "name") -> str:
    """The id in a resource name. Raises InvalidError when it is no name of a contact."""
    collection, _, contact_id = name.partition("/")
    if collection != "contacts" or not re.fullmatch(r"[a-z0-9-]{1,63}", contact_id):
        raise InvalidError(Violation(field, "must be contacts/{contact_id}"))
    return contact_id


def name_key(name: str) -> str:
    """What is compared when people are sorted and searched by name: case does not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
