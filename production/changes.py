"""What has changed, in order, for those who watch. Knows no gRPC.

Each change has a position in its owner's row of changes. It is noted in the transaction that makes
it, under the owner's lock (see contacts.py), so a watcher that goes by positions misses nothing.
"""

import re
from collections.abc import Iterable

from sqlalchemy import bindparam, text

from production.database import Database
from production.rules import InvalidError, Violation
from production.v1.contacts_pb2 import WatchContactsResponse

Change = WatchContactsResponse

KEPT_CHANGES = 10_000
"""Changes kept for an owner's watchers to catch up on."""
MAX_CHANGES = 20
"""Changes read at once: of the largest contacts, about 400 kB."""


class PositionExpiredError(Exception):
    """Changes after this position are no longer kept: list the contacts, then watch anew."""


class Changes:
    """All owners' changes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, owners: Iterable[str]) -> dict[str, int]:
        """The position of the newest change of each of the owners that has one."""
        statement = text("SELECT owner, position FROM owners WHERE owner IN :owners")
        statement = statement.bindparams(bindparam("owners", expanding=True))
        with self._database.read() as connection:
            rows = connection.execute(statement, {"owners": list(owners)}).all()
        return {row.owner: row.position for row in rows}

    def position(self, owner: str, after: str = "") -> int:
        """Where a watch begins: the position named, else that of the newest change.

        Raises InvalidError for a position that never was, PositionExpiredError for one so old that
        changes after it are no longer kept.
        """
        newest = self.newest([owner]).get(owner, 0)
        if not after:
            return newest
        if not re.fullmatch(r"[0-9]{1,18}", after) or int(after) > newest:
            raise InvalidError(Violation("position", "is none that a watch has given"))
        if int(after) < newest - KEPT_CHANGES:
            raise PositionExpiredError(after)
        return int(after)

    def after(self, owner: str, position: int, limit: int = MAX_CHANGES) -> list[Change]:
        """The changes after a position, in their order.

        Raises PositionExpiredError when some of them are no longer kept.
        """
        statement = text(
            "SELECT position, change FROM changes WHERE owner = :owner AND position > :position"
            " ORDER BY position LIMIT :limit"
        )
        parameters = {"owner": owner, "position": position, "limit": limit}
        with self._database.read() as connection:
            rows = connection.execute(statement, parameters).all()
        if rows and rows[0].position != position + 1:
            raise PositionExpiredError(str(position))
        return [Change.FromString(row.change) for row in rows]
