"""Removes what has been kept for long enough, and whole owners. Knows no gRPC."""

import time
from collections.abc import Mapping

from sqlalchemy import Connection, text

from production.contacts.once import KEPT_REQUESTS_US
from production.serving.storage.database import Database

DAY_US = 24 * 3600 * 1_000_000
OWNED = ("contacts", "changes", "requests", "owners")
"""The tables whose rows belong to an owner."""


class OwnerError(Exception):
    """An owner that should exist does not, or the other way round."""


def sweep(database: Database, kept_days: int) -> None:
    """Removes changes of more than so many days, and remembered requests and nonces of old."""
    now_us = time.time_ns() // 1_000
    oldest = {"oldest": now_us - kept_days * DAY_US}
    with database.write() as connection:
        # The release before writes changes without a time while both run.
        undated = "UPDATE changes SET created_us = :now WHERE created_us IS NULL"
        connection.execute(text(undated), {"now": now_us})
        found = "SELECT DISTINCT owner FROM changes WHERE created_us < :oldest"
        owners = connection.execute(text(found), oldest).scalars().all()
    for owner in owners:
        with database.write() as connection:
            _expire(connection, oldest | {"owner": owner})
    with database.write() as connection:
        connection.execute(
            text("DELETE FROM requests WHERE created_us < :oldest"),
            {"oldest": now_us - KEPT_REQUESTS_US},
        )
        connection.execute(
            text("DELETE FROM nonces WHERE expires < :now"), {"now": now_us // 1_000_000}
        )


def _expire(connection: Connection, parameters: Mapping[str, object]) -> None:
    """Removes an owner's old changes, under its lock, and records up to where."""
    for statement in (
        "UPDATE owners SET expired_position = coalesce((SELECT max(position) FROM changes"
        " WHERE owner = :owner AND created_us < :oldest), expired_position) WHERE owner = :owner",
        "DELETE FROM changes WHERE owner = :owner AND position <="
        " (SELECT expired_position FROM owners WHERE owner = :owner)",
    ):
        connection.execute(text(statement), parameters)


def owners(database: Database) -> list[str]:
    """Returns the names of all owners."""
    with database.read() as connection:
        return list(connection.execute(text("SELECT owner FROM owners ORDER BY owner")).scalars())


def count(database: Database, owner: str) -> dict[str, int]:
    """Returns how many rows of each table belong to an owner. Raises OwnerError if none does."""
    with database.read() as connection:
        counts = {table: _count(connection, table, owner) for table in OWNED}
    if not any(counts.values()):
        raise OwnerError(f"there is no owner {owner}")
    return counts


def erase(database: Database, owner: str) -> None:
    """Removes all that is stored of an owner. Writes that are under way come before or after it."""
    with database.write() as connection:
        _lock(connection, owner)
        for table in OWNED:
            connection.execute(text(f"DELETE FROM {table} WHERE owner = :owner"), {"owner": owner})  # noqa: S608 - our own names.


def rename(database: Database, owner: str, new: str) -> None:
    """Gives all that is stored of an owner to a new one. Raises OwnerError if that one exists."""
    with database.write() as connection:
        _lock(connection, owner)
        if any(_count(connection, table, new) for table in OWNED):
            raise OwnerError(f"there is an owner {new} already")
        for table in OWNED:
            connection.execute(
                text(f"UPDATE {table} SET owner = :new WHERE owner = :owner"),  # noqa: S608
                {"owner": owner, "new": new},
            )


def _lock(connection: Connection, owner: str) -> None:
    connection.execute(
        text("UPDATE owners SET position = position WHERE owner = :owner"), {"owner": owner}
    )


def _count(connection: Connection, table: str, owner: str) -> int:
    query = text(f"SELECT count(*) FROM {table} WHERE owner = :owner")  # noqa: S608
    number: int = connection.execute(query, {"owner": owner}).scalar_one()
    return number
