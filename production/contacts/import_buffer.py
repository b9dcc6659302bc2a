"""Collects and checks the people of an import, to be added all at once. Knows no gRPC."""

import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from production.contacts.validation import person_violations
from production.serving import unknown_fields
from production.serving.validation import (
    InvalidError,
    Violation,
    raise_for,
    request_id_violations,
)
from production.v1.contacts_pb2 import ImportContactsRequest
from protobuf_demo.addressbook_pb2 import Person

MAX_PEOPLE = 10_000
"""One import is one transaction, and no longer than the changes that are kept for watchers."""
MAX_BYTES = 32 << 20
IN_MEMORY = 1 << 20
"""Bytes of an import that are kept in memory; the rest goes to a temporary file."""


class Import:
    """One import. It buffers people, so that a slow caller does not hold a lock on the database."""

    def __init__(self, spool: Any) -> None:
        """spool is an empty binary file, which holds the people."""
        self.request_id = ""
        self.count = 0
        self._finished = False
        self._spool = spool
        self._digest = hashlib.sha256()

    def add(self, request: ImportContactsRequest) -> None:
        """Adds the next people. Raises InvalidError with everything that is wrong with them."""
        if self._finished:
            raise InvalidError(Violation("finish", "was already set on an earlier message"))
        self._finished = request.finish
        self.request_id = self.request_id or request.request_id
        checks = (
            person_violations(person, f"people[{index}]")
            for index, person in enumerate(request.people, self.count)
        )
        raise_for(request_id_violations(request.request_id), *checks)
        self.count += len(request.people)
        for person in request.people:
            self._digest.update(_length_prefixed(person))
            self._spool.write(_length_prefixed(unknown_fields.without(person)))
        if self.count > MAX_PEOPLE or self._spool.tell() > MAX_BYTES:
            most = f"must be at most {MAX_PEOPLE:,} and {MAX_BYTES >> 20} MiB in one import"
            raise InvalidError(Violation("people", most))

    def check_finished(self) -> None:
        """Raises InvalidError unless the caller has set finish: it may have been cut off."""
        if not self._finished:
            raise InvalidError(Violation("finish", "must be set on the last message"))

    def fingerprint(self) -> bytes:
        """Returns a digest that tells this import from others."""
        return self._digest.digest()

    def people(self) -> Iterator[Person]:
        """Yields everybody who was added, in their order."""
        self._spool.seek(0)
        while (person := parse_length_prefixed(Person, self._spool)) is not None:
            yield person


def _length_prefixed(person: Person) -> bytes:
    written = io.BytesIO()
    serialize_length_prefixed(person, written)
    return written.getvalue()


@contextmanager
def gathering() -> Iterator[Import]:
    """Yields an import, whose file is deleted when the block ends."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
        yield Import(spool)
