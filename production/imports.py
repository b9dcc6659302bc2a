"""People who are gathered and checked, to be added all at once. Knows no gRPC."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from production import rules
from production.rules import InvalidError, Violation
from production.v1.contacts_pb2 import ImportContactsRequest
from protobuf_demo.addressbook_pb2 import Person

MAX_PEOPLE = 100_000
MAX_BYTES = 64 << 20
IN_MEMORY = 1 << 20
"""Bytes of an import that are kept in memory; what comes after goes to a temporary file."""


class Import:
    """One import. People are kept aside, so that a slow caller holds no lock on the database."""

    def __init__(self, spool: Any) -> None:
        """spool is an empty binary file, to keep people in."""
        self.request_id = ""
        self.count = 0
        self._finished = False
        self._spool = spool

    def add(self, request: ImportContactsRequest) -> None:
        """Takes the next people. Raises InvalidError with all that is wrong with them."""
        if self._finished:
            raise InvalidError(Violation("finish", "was set on a message before this one"))
        self._finished = request.finish
        self.request_id = self.request_id or request.request_id
        checks = (
            rules.check_person(person, f"people[{index}]")
            for index, person in enumerate(request.people, self.count)
        )
        rules.check(rules.check_request_id(request.request_id), *checks)
        self.count += len(request.people)
        for person in request.people:
            serialize_length_prefixed(person, self._spool)
        if self.count > MAX_PEOPLE or self._spool.tell() > MAX_BYTES:
            most = f"may be {MAX_PEOPLE:,} and {MAX_BYTES >> 20} MiB in one import"
            raise InvalidError(Violation("people", most))

    def check_finished(self) -> None:
        """Raises InvalidError unless the caller has said that this is all."""
        if not self._finished:
            raise InvalidError(Violation("finish", "must be set on the last message"))

    def fingerprint(self) -> bytes:
        """What tells this import from others."""
        self._spool.seek(0)
        return hashlib.file_digest(self._spool, "sha256").digest()

    def people(self) -> Iterator[Person]:
        """All who were taken, in their order."""
        self._spool.seek(0)
        while (person := parse_length_prefixed(Person, self._spool)) is not None:
            yield person


@contextmanager
def gathering() -> Iterator[Import]:
    """An import, whose file is gone when the block ends."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as spool:
        yield Import(spool)
