"""Reads the changes of an owner's contacts, in order, for watchers. Knows no gRPC.

Each change has a position in the sequence of its owner's changes. It is recorded in the transaction
that makes it, under the owner's lock (transaction.py), so a watcher that goes by positions misses
nothing.
"""

import re

from sqlalchemy import Connection, text

from production.serving.resources import PositionExpiredError
from production.serving.storage.database import Database, until_size
from production.serving.validation import InvalidError, Violation
from production.v1.contacts_pb2 import WatchContactsResponse

Change = WatchContactsResponse

KEPT_CHANGES = 10_000
"""Changes of an owner that are kept, for watchers to catch up on."""
MAX_CHANGES, MAX_CHANGES_BYTES = 20, 128 * 1024
"""Changes read at once, and bytes of them, for each watcher that does not read them."""


class Changes:
    """All owners' changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def position(self, owner: str, after: str = "") -> int:
        """Returns where a watch begins: after this position or, by default, the newest change.

        Raises InvalidError if no watch has issued the position, PositionExpiredError if changes
        after it are no longer kept.
        """
        with self._database.read() as connection:
            oldest, newest = _kept(connection, owner)
        if not after:
            return newest
        if not re.fullmatch(r"[0-9]{1,18}", after) or int(after) > newest:
            raise InvalidError(Violation("position", "was not issued by WatchContacts"))
        if int(after) < oldest:
            raise PositionExpiredError(after)
        return int(after)

    def after(self, owner: str, position: int, limit: int = MAX_CHANGES) -> list[Change]:
        """Returns the changes after a position, in their order. Of a contact that has been deleted,
        only the deletion is left.

        Raises PositionExpiredError if some of them are no longer kept, or the owner was erased.
        """
        select = (
            "SELECT position, change FROM changes WHERE owner = :owner AND position > :position"
        )
        parameters = {
            "owner": owner,
            "position": position,
            "limit": limit,
            "max_bytes": MAX_CHANGES_BYTES,
        }
        statement = text(until_size(select, "change", "position"))
        with self._database.read() as connection:
            rows = connection.execute(statement, parameters).all()
            # Afterwards, so that what is removed meanwhile is noticed.
            oldest, newest = _kept(connection, owner)
        if not oldest <= position <= newest:
            raise PositionExpiredError(str(position))
        return [Change.FromString(row.change) for row in rows]


def _kept(connection: Connection, owner: str) -> tuple[int, int]:
    """Returns the positions from which and up to which a watcher misses no change."""
    query = "SELECT position, expired_position FROM owners WHERE owner = :owner"
    row = connection.execute(text(query), {"owner": owner}).first()
    return (max(row.expired_position, row.position - KEPT_CHANGES), row.position) if row else (0, 0)
