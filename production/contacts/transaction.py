"""Write transactions, in which changes get their positions. Knows no gRPC."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Row, text

from production.contacts.changes import KEPT_CHANGES, Change
from production.contacts.quota import Quota
from production.serving.resources import QuotaError
from production.serving.storage.database import Database
from production.v1.contacts_pb2 import Contact


class Write:
    """One owner's write transaction."""

    def __init__(
        self, connection: Connection, quota: Quota, owner: str, row: Row[tuple[object, ...]]
    ) -> None:
        """row is the owner's row."""
        self.connection = connection
        self.owner = owner
        self.now_us = time.time_ns() // 1_000
        self.position: int = row.position
        self.contacts: int = row.contact_count
        self.bytes: int = row.contact_bytes
        self.requests: int = row.request_count
        self._quota = quota

    def run(self, statement: str, **parameters: object) -> Row[tuple[object, ...]] | None:
        """Runs a statement for this owner; returns the first row, if it has rows."""
        result = self.connection.execute(text(statement), {"owner": self.owner} | parameters)
        return result.first() if result.returns_rows else None

    def run_many(self, statement: str, rows: Sequence[dict[str, object]]) -> None:
        """Runs a statement once for each row of parameters."""
        self.connection.execute(text(statement), [{"owner": self.owner} | row for row in rows])

    def use(self, contacts: int, size: int) -> None:
        """Counts contacts and bytes that are added or, below zero, removed. Raises QuotaError."""
        self.contacts += contacts
        self.bytes += size
        if contacts > 0 and self.contacts > self._quota.contacts:
            raise QuotaError(f"{self._quota.contacts:,} contacts")
        if size > 0 and self.bytes > self._quota.bytes:
            raise QuotaError(f"{self._quota.bytes:,} bytes of contacts")

    def record(self, kind: Change.Kind.ValueType, *contacts: Contact) -> None:
        """Records a change of each contact, and makes its position the contact's etag."""
        changes: list[dict[str, object]] = []
        for contact in contacts:
            self.position += 1
            if kind != Change.KIND_DELETED:
                contact.etag = f'"{self.position}"'
            change = Change(kind=kind, contact=contact, position=str(self.position))
            changes.append(
                {
                    "position": self.position,
                    "change": change.SerializeToString(),
                    "contact_id": contact.name.removeprefix("contacts/"),
                    "created_us": self.now_us,
                }
            )
        self.run_many(
            "INSERT INTO changes (owner, position, change, contact_id, created_us)"
            " VALUES (:owner, :position, :change, :contact_id, :created_us)",
            changes,
        )

    def forget(self, contact_id: str) -> None:
        """Removes what earlier changes and remembered requests hold of a contact, also the digests,
        by which somebody who suspects a name or address could find out that it was there."""
        for statement in (
            "DELETE FROM changes WHERE owner = :owner AND contact_id = :contact_id",
            "UPDATE requests SET response = :nothing, fingerprint = :nothing"
            " WHERE owner = :owner AND contact_id = :contact_id",
        ):
            self.run(statement, contact_id=contact_id, nothing=b"")


@contextmanager
def begin_write(database: Database, quota: Quota, owner: str) -> Iterator[Write]:
    """Begins a transaction that has locked its owner's row, and keeps that row up to date."""
    with database.write() as connection:
        locked = connection.execute(
            text(
                "INSERT INTO owners (owner, position) VALUES (:owner, 0) ON CONFLICT (owner)"
                " DO UPDATE SET position = owners.position"
                " RETURNING position, contact_count, contact_bytes, request_count"
            ),
            {"owner": owner},
        )
        write = Write(connection, quota, owner, locked.one())
        yield write
        write.run(
            "UPDATE owners SET position = :position, contact_count = :contacts,"
            " contact_bytes = :bytes, request_count = :requests WHERE owner = :owner",
            position=write.position,
            contacts=write.contacts,
            bytes=write.bytes,
            requests=write.requests,
        )
        write.run(
            "DELETE FROM changes WHERE owner = :owner AND position <= :oldest",
            oldest=write.position - KEPT_CHANGES,
        )
