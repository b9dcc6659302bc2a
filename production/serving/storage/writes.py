"""Write transactions of an owner: one after the other, each request once. Knows no gRPC.

A write first locks its owner's row. So what it reads may be relied on, and the positions of changes
are committed in their order: a watcher that goes by positions misses nothing.
"""

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, text

from production.serving.resources import PositionExpiredError
from production.serving.storage.database import Database
from production.serving.validation import InvalidError, Violation

WRITES = """
    CREATE TABLE owners (owner {text} NOT NULL PRIMARY KEY, position BIGINT NOT NULL);
    CREATE TABLE requests (
        owner {text} NOT NULL,
        request_id {text} NOT NULL,
        fingerprint {bytes} NOT NULL,
        resource_id {text} NOT NULL,
        position BIGINT NOT NULL,
        PRIMARY KEY (owner, request_id)
    );
    CREATE INDEX requests_by_position ON requests (owner, position);
    """
"""A migration, for services whose resources have owners."""
KEPT_CHANGES = 10_000
"""The newest changes of an owner, of which request ids are remembered. A table that keeps what is
deleted for watchers may remove it after as many."""


class Write(NamedTuple):
    """One owner's write transaction."""

    connection: Connection
    owner: str
    position: int
    """The next one in the sequence of the owner's changes. `advance` takes it."""
    now_us: int
    """The time in Unix microseconds."""

    def run(self, statement: str, **parameters: object) -> Row[tuple[object, ...]] | None:
        """Runs a statement for this owner; returns the first row, if it has rows."""
        result = self.connection.execute(text(statement), {"owner": self.owner} | parameters)
        return result.first() if result.returns_rows else None

    def advance(self) -> None:
        """Makes the position that of the owner's newest change, so that watchers read again."""
        self.run("UPDATE owners SET position = :new WHERE owner = :owner", new=self.position)

    def once(self, request: Any, work: Callable[[], str]) -> str:
        """Does the work, which returns a resource's id, unless this request has done it before.

        A request that is sent again has the same request_id (AIP-155), which may be empty: then it
        is not remembered. Returns the id. Raises InvalidError if the request_id was used for
        another request, and what the work raises.
        """
        if not request.request_id:
            return work()
        key, digest = str(uuid.UUID(request.request_id)), fingerprint(request)
        before = self.run(
            "SELECT fingerprint, resource_id FROM requests"
            " WHERE owner = :owner AND request_id = :request_id",
            request_id=key,
        )
        if before and before.fingerprint != digest:
            raise InvalidError(Violation("request_id", "was used for another request"))
        if before:
            return str(before.resource_id)
        resource_id = work()
        self.run(
            "INSERT INTO requests (owner, request_id, fingerprint, resource_id, position)"
            " VALUES (:owner, :request_id, :fingerprint, :resource_id, :position)",
            request_id=key,
            fingerprint=digest,
            resource_id=resource_id,
            position=self.position,
        )
        self.run(
            "DELETE FROM requests WHERE owner = :owner AND position <= :oldest",
            oldest=self.position - KEPT_CHANGES,
        )
        return resource_id


@contextmanager
def begin_write(database: Database, owner: str) -> Iterator[Write]:
    """Begins a transaction that has locked its owner's row."""
    with database.write() as connection:
        locked = connection.execute(
            text(
                "INSERT INTO owners (owner, position) VALUES (:owner, 0) ON CONFLICT (owner)"
                " DO UPDATE SET position = owners.position RETURNING position"
            ),
            {"owner": owner},
        )
        yield Write(connection, owner, locked.scalar_one() + 1, time.time_ns() // 1_000)


def newest(database: Database, owners: Iterable[str]) -> dict[str, int]:
    """Returns the position of the newest change of each of the owners that has one."""
    statement = text("SELECT owner, position FROM owners WHERE owner IN :owners")
    statement = statement.bindparams(bindparam("owners", expanding=True))
    with database.read() as connection:
        rows = connection.execute(statement, {"owners": list(owners)}).all()
    return {row.owner: row.position for row in rows}


def position_to_watch(database: Database, owner: str, after: str) -> int:
    """Returns where a watch begins: after this position or, if it is empty, the newest change.

    Raises InvalidError if no watch has issued the position.
    """
    now = newest(database, [owner]).get(owner, 0)
    if not after:
        return now
    if not re.fullmatch(r"[0-9]{1,18}", after) or int(after) > now:
        raise InvalidError(Violation("position", "was not issued by a watch"))
    return int(after)


def check_kept(database: Database, owner: str, position: int) -> None:
    """Raises PositionExpiredError if changes after a position are no longer kept.

    Call it after they were read, so that what is removed meanwhile is noticed.
    """
    now = newest(database, [owner]).get(owner, 0)
    if not now - KEPT_CHANGES <= position <= now:
        raise PositionExpiredError(str(position))


def fingerprint(request: Any) -> bytes:
    """Returns a digest of everything in a request but its request_id."""
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    data = request.DESCRIPTOR.full_name.encode() + content.SerializeToString(deterministic=True)
    return hashlib.sha256(data).digest()
