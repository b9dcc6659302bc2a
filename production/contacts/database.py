"""The tables of contacts, and the migrations that make them."""

from production.contacts import rows
from production.contacts.settings import PROGRAM
from production.serving.observability import metrics
from production.serving.security.nonces import NONCES
from production.serving.storage.database import Database, Migration

TRANSACTIONS = metrics.transactions("contacts")
MIGRATIONS = [
    # One entry a release, never changed once released.
    Migration(
        """
    CREATE TABLE contacts (
        owner {text} NOT NULL,
        contact_id {text} NOT NULL,
        name_key {text} NOT NULL,
        person {bytes} NOT NULL,
        revision BIGINT NOT NULL,
        created_us BIGINT NOT NULL,
        updated_us BIGINT NOT NULL,
        PRIMARY KEY (owner, contact_id)
    );
    CREATE INDEX contacts_by_name ON contacts (owner, name_key, contact_id);
    CREATE TABLE owners (
        owner {text} NOT NULL PRIMARY KEY,
        position BIGINT NOT NULL
    );
    CREATE TABLE changes (
        owner {text} NOT NULL,
        position BIGINT NOT NULL,
        change {bytes} NOT NULL,
        PRIMARY KEY (owner, position)
    );
    CREATE TABLE requests (
        owner {text} NOT NULL,
        request_id {text} NOT NULL,
        fingerprint {bytes} NOT NULL,
        response {bytes} NOT NULL,
        created_us BIGINT NOT NULL,
        PRIMARY KEY (owner, request_id)
    );
    CREATE INDEX requests_by_age ON requests (created_us);
        """
    ),
    Migration(NONCES),
    # What the release before writes while both run is not counted.
    Migration(
        """
    ALTER TABLE owners ADD COLUMN contact_count BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE owners ADD COLUMN contact_bytes BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE owners ADD COLUMN request_count BIGINT NOT NULL DEFAULT 0;
    UPDATE owners SET
        contact_count = (SELECT count(*) FROM contacts WHERE contacts.owner = owners.owner),
        contact_bytes = (
            SELECT coalesce(sum(length(person)), 0) FROM contacts
            WHERE contacts.owner = owners.owner
        );
    ALTER TABLE requests ADD COLUMN number BIGINT;
    CREATE INDEX requests_by_number ON requests (owner, number);
        """
    ),
    Migration(
        """
    ALTER TABLE owners ADD COLUMN expired_position BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE changes ADD COLUMN contact_id {text};
    ALTER TABLE changes ADD COLUMN created_us BIGINT;
    CREATE INDEX changes_by_contact ON changes (owner, contact_id);
    CREATE INDEX changes_by_age ON changes (created_us);
    ALTER TABLE requests ADD COLUMN contact_id {text};
    CREATE INDEX requests_by_contact ON requests (owner, contact_id);
    CREATE TABLE secrets (name {text} NOT NULL PRIMARY KEY, value {bytes} NOT NULL);
    INSERT INTO secrets (name, value) VALUES ('page_tokens', {secret});
        """
    ),
]
TABLES = {
    "contacts": rows.COLUMNS,
    "owners": [
        "owner",
        "position",
        "contact_count",
        "contact_bytes",
        "request_count",
        "expired_position",
    ],
    "changes": ["owner", "position", "change", "contact_id", "created_us"],
    "requests": [
        "owner",
        "request_id",
        "number",
        "fingerprint",
        "response",
        "created_us",
        "contact_id",
    ],
    "secrets": ["name", "value"],
    "nonces": ["key_id", "nonce", "expires"],
}
"""The tables and columns that the statements of this release use."""


def connect(url: str, connections: int = 8) -> Database:
    """Returns the database at a URL; its first transaction connects."""
    return Database(url, MIGRATIONS, TRANSACTIONS, connections=connections)


def prepare(database: Database) -> None:
    """Brings the tables of an SQLite file up to date, checks those of PostgreSQL.

    A file belongs to this program alone. On PostgreSQL other releases may be running, and only the
    role that migrates needs the right to change tables.

    Raises SchemaError, and sqlalchemy.exc.ProgrammingError if a right is missing.
    """
    if database.kind == "sqlite":
        database.migrate()
    database.check(TABLES, f"python -m {PROGRAM} migrate")
