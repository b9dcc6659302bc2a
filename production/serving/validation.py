"""Validates requests. Every mistake of a request is found, not only the first."""

import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

MAX_TEXT = 200
"""The longest text, in characters."""
YEAR_1, YEAR_9999 = -62_135_596_800, 253_402_300_799
"""The first and the last second of a Timestamp (google/protobuf/timestamp.proto)."""
MAX_VIOLATIONS = 100
"""More than fit into a reply; a request of 1 MiB can hold half a million mistakes."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
"""RFC 9562, 4. Both cases are the same id."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
RESOURCE_ID = re.compile(r"[a-z][a-z0-9-]{2,61}[a-z0-9]")
"""AIP-122. Only the server gives ids that begin with a digit, its UUIDs."""


class Violation(NamedTuple):
    """A field of the request, as a path, and what is wrong with it."""

    field: str
    description: str


class InvalidError(Exception):
    """A request is invalid; violations lists everything that is wrong with it."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{field}: {what}" for field, what in violations))
        self.violations = violations


def raise_for(*found: Iterator[Violation]) -> None:
    """Raises InvalidError with all violations, up to a limit, if there are any."""
    violations = list(islice(chain.from_iterable(found), MAX_VIOLATIONS))
    if violations:
        raise InvalidError(*violations)


def timestamp_violations(time: Timestamp, field: str) -> Iterator[Violation]:
    """Yields a violation for a time that JSON cannot express: one reader would break on it."""
    if not (YEAR_1 <= time.seconds <= YEAR_9999 and 0 <= time.nanos <= 999_999_999):
        yield Violation(field, "must be a time from the year 1 to 9999")


def text_violations(text: str, field: str) -> Iterator[Violation]:
    """Yields a violation unless the text is one line, of any script, and not too long."""
    if len(text) > MAX_TEXT:
        yield Violation(field, f"must have at most {MAX_TEXT} characters, got {len(text)}")
    elif CONTROL.search(text):
        yield Violation(field, "may not contain control characters")


def resource_id_violations(resource_id: str, field: str) -> Iterator[Violation]:
    """Yields a violation unless the id is valid, or empty: then the server makes one."""
    if resource_id and not RESOURCE_ID.fullmatch(resource_id):
        what = "must be 4 to 63 lower-case letters, digits and hyphens, beginning with a letter"
        yield Violation(field, what)


def request_id_violations(request_id: str) -> Iterator[Violation]:
    """Yields a violation unless the id is a UUID, or empty. uuid.UUID takes more than that."""
    if request_id and not UUID.fullmatch(request_id):
        yield Violation("request_id", "must be a UUID: 32 hexadecimal digits, with hyphens")


def page_size_violations(page_size: int) -> Iterator[Violation]:
    """Yields a violation for a negative size: 0 means the default, and large ones are capped."""
    if page_size < 0:
        yield Violation("page_size", "may not be negative")


def id_of(name: str, pattern: str, field: str = "name") -> str:
    """Returns the id in a resource name (AIP-122). Raises InvalidError if the name is another one.

    pattern is collection/{singular_id}.
    """
    collection, _, resource_id = name.partition("/")
    if collection != pattern.partition("/")[0] or not re.fullmatch(r"[a-z0-9-]{1,63}", resource_id):
        raise InvalidError(Violation(field, f"must be {pattern}"))
    return resource_id
