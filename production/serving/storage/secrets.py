"""Secrets that all processes with a database share."""

from sqlalchemy import Connection, text

SECRETS = """
    CREATE TABLE secrets (name {text} NOT NULL PRIMARY KEY, value {bytes} NOT NULL);
    INSERT INTO secrets (name, value) VALUES ('page_tokens', {secret});
    """
"""A migration, for services whose lists have pages."""


def read_secret(connection: Connection, name: str) -> bytes:
    """Returns a secret of 64 bytes."""
    query = text("SELECT value FROM secrets WHERE name = :name")
    return bytes(connection.execute(query, {"name": name}).scalar_one())
