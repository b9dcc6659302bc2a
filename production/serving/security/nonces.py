"""Remembers the nonces of signed calls, so that none is admitted twice."""

from sqlalchemy import text

from production.serving.security.principal import RefusedError
from production.serving.storage.database import Database

NONCES = """
    CREATE TABLE nonces (
        key_id {text} NOT NULL,
        nonce {text} NOT NULL,
        expires BIGINT NOT NULL,
        PRIMARY KEY (key_id, nonce)
    );
    CREATE INDEX nonces_by_age ON nonces (expires);
    """
"""A migration, for services that accept signed calls."""
WINDOW_S = 60
"""The leeway between the clocks of client and server, which is also the lifetime of a signature."""
MARGIN_S = 3_600
"""How long a nonce is kept beyond that. Each server deletes by its own clock, and clocks differ."""


def use_nonce(database: Database, key: str, nonce: str, signed: int, now: float) -> None:
    """Consumes the nonce of a signature of that time, for all processes.

    Both times are in Unix seconds. Call it after the signature was verified, so that attackers
    cannot fill the table. Raises RefusedError if the nonce has been used.
    """
    with database.write() as connection:
        connection.execute(text("DELETE FROM nonces WHERE expires < :now"), {"now": int(now)})
        used = connection.execute(
            text(
                "INSERT INTO nonces (key_id, nonce, expires) VALUES (:key, :nonce, :expires)"
                " ON CONFLICT DO NOTHING"
            ),
            {"key": key, "nonce": nonce, "expires": signed + WINDOW_S + MARGIN_S},
        )
        if used.rowcount != 1:
            raise RefusedError("signature: sent before")
