"""The tables, and the migrations that make them."""

from production.serving.observability import metrics
from production.serving.security.nonces import NONCES
from production.serving.storage.database import Database, Migration
from production.serving.storage.secrets import SECRETS
from production.serving.storage.writes import WRITES
from production.starter.settings import PROGRAM

TRANSACTIONS = metrics.transactions("parcels")
MIGRATIONS = [
    # One entry a release, never changed once released.
    Migration(
        """
    CREATE TABLE parcels (
        owner {text} NOT NULL,
        parcel_id {text} NOT NULL,
        position BIGINT NOT NULL,
        display_name {text} NOT NULL,
        description {text} NOT NULL,
        created_us BIGINT NOT NULL,
        updated_us BIGINT NOT NULL,
        is_deleted INTEGER NOT NULL,
        PRIMARY KEY (owner, parcel_id)
    );
    CREATE INDEX parcels_by_position ON parcels (owner, position);
        """
        + WRITES
        + SECRETS
        + NONCES
    ),
]
TABLES = {
    "parcels": [
        "owner",
        "parcel_id",
        "position",
        "display_name",
        "description",
        "created_us",
        "updated_us",
        "is_deleted",
    ],
    "owners": ["owner", "position"],
    "requests": ["owner", "request_id", "fingerprint", "resource_id", "position"],
    "secrets": ["name", "value"],
    "nonces": ["key_id", "nonce", "expires"],
}
"""The tables and columns that the statements of this release use."""


def connect(url: str, connections: int = 8) -> Database:
    """Returns the database at a URL; its first transaction connects."""
    return Database(url, MIGRATIONS, TRANSACTIONS, connections=connections)


def prepare(database: Database) -> None:
    """Brings the tables of an SQLite file up to date, checks those of PostgreSQL.

    On PostgreSQL other releases may be running, and only the role that migrates needs the right to
    change tables. Raises SchemaError, and sqlalchemy.exc.ProgrammingError if a right is missing.
    """
    if database.kind == "sqlite":
        database.migrate()
    database.check(TABLES, f"python -m {PROGRAM} migrate")
