"""Validates contacts. Every mistake of a request is found, not only the first."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator

from production.serving.validation import (
    MAX_TEXT,
    Violation,
    id_of,
    text_violations,
    timestamp_violations,
)
from production.v1.contacts_pb2 import Contact, UpdateContactRequest
from protobuf_demo.addressbook_pb2 import Person

MAX_PHONES = 20

NEVER_CHANGED = {"name", "etag", "create_time", "update_time"}
"""Fields of a contact that are ignored in a mask, not refused: a caller may send back all that it
has read (AIP-203)."""
_FIELDS = [field for field in Contact.DESCRIPTOR.fields if field.name not in NEVER_CHANGED]
WRITABLE = [field.name for field in _FIELDS]
"""Fields of a contact that callers write."""
MASK_PATHS = {
    *WRITABLE,
    *(f"{field.name}.{part.name}" for field in _FIELDS if field.message_type
      for part in field.message_type.fields),
}  # fmt: skip
"""Paths that a mask may have: writable fields, and the fields of those that are messages."""


def contact_violations(contact: Contact) -> Iterator[Violation]:
    """Yields what is wrong with the writable fields of a request's contact."""
    yield from person_violations(contact.person, "contact.person")


def person_violations(person: Person, path: str) -> Iterator[Violation]:
    """Yields what is wrong with a person, whose fields are named below path."""
    if not person.name.strip():
        yield Violation(f"{path}.name", "may not be empty")
    yield from text_violations(person.name, f"{path}.name")
    yield from text_violations(person.email, f"{path}.email")
    yield from timestamp_violations(person.last_updated, f"{path}.last_updated")
    if len(person.phones) > MAX_PHONES:
        yield Violation(
            f"{path}.phones", f"must have at most {MAX_PHONES} entries, got {len(person.phones)}"
        )
    for index, phone in enumerate(person.phones[:MAX_PHONES]):
        if not phone.number.strip():
            yield Violation(f"{path}.phones[{index}].number", "may not be empty")
        yield from text_violations(phone.number, f"{path}.phones[{index}].number")


def paths_to_change(request: UpdateContactRequest) -> set[str]:
    """Returns the paths of the mask, or person and every other field that is set (AIP-134)."""
    paths = set(request.update_mask.paths)
    if not paths:
        paths = {"person", *(field.name for field, _ in request.contact.ListFields())}
    return paths - NEVER_CHANGED


def mask_violations(
    paths: Iterable[str], allowed: Collection[str] = MASK_PATHS
) -> Iterator[Violation]:
    """Yields a violation for each path that a caller cannot write."""
    for path in paths:
        if path not in allowed:
            yield Violation("update_mask", f"cannot change {path[:MAX_TEXT]!r}")


def contact_id_of(name: str, field: str = "name") -> str:
    """Returns the id in a resource name. Raises InvalidError if it is not a contact's name."""
    return id_of(name, "contacts/{contact_id}", field)


def name_key(name: str) -> str:
    """Returns the key by which people are sorted and searched: their name, in any case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
