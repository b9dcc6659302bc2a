"""Contacts as rows of their table, and every statement on it. Knows no gRPC."""

from collections.abc import Sequence

from sqlalchemy import Connection, Row, text

from production.contacts import paging, validation
from production.contacts.transaction import Write
from production.serving.storage.database import until_size
from production.v1.contacts_pb2 import Contact

ContactRow = Row[tuple[object, ...]]
COLUMNS = [
    "owner",
    "contact_id",
    "name_key",
    "person",
    "revision",
    "created_us",
    "updated_us",
]
"""Every statement names them: while a new release rolls out, its tables may have further ones."""
_NAMES, _VALUES = ", ".join(COLUMNS), ", ".join(f":{column}" for column in COLUMNS)
_CHANGES = ", ".join(f"{column} = :{column}" for column in COLUMNS)
SELECT = f"SELECT {_NAMES} FROM contacts WHERE owner = :owner"  # noqa: S608 - our own names.
INSERT = f"INSERT INTO contacts ({_NAMES}) VALUES ({_VALUES})"  # noqa: S608
UPDATE = f"UPDATE contacts SET {_CHANGES} WHERE owner = :owner AND contact_id = :contact_id"  # noqa: S608


def _values(contact: Contact) -> dict[str, object]:
    """Returns what the columns hold, owner aside."""
    return {
        "contact_id": validation.contact_id_of(contact.name),
        "name_key": validation.name_key(contact.person.name),
        "person": contact.person.SerializeToString(),
        "revision": int(contact.etag.strip('"')),
        "created_us": contact.create_time.ToMicroseconds(),
        "updated_us": contact.update_time.ToMicroseconds(),
    }


def contact_of(row: ContactRow) -> Contact:
    """Returns the contact in a row."""
    contact = Contact(name=f"contacts/{row.contact_id}", etag=f'"{row.revision}"')
    contact.person.ParseFromString(row.person)
    contact.create_time.FromMicroseconds(row.created_us)
    contact.update_time.FromMicroseconds(row.updated_us)
    return contact


def insert(write: Write, *contacts: Contact) -> None:
    """Raises QuotaError."""
    write.use(len(contacts), sum(contact.person.ByteSize() for contact in contacts))
    write.run_many(INSERT, [_values(contact) for contact in contacts])


def update(write: Write, before: Contact, contact: Contact) -> None:
    """Raises QuotaError."""
    write.use(0, contact.person.ByteSize() - before.person.ByteSize())
    write.run(UPDATE, **_values(contact))


def delete(write: Write, contact: Contact) -> None:
    write.use(-1, -contact.person.ByteSize())
    write.run(
        "DELETE FROM contacts WHERE owner = :owner AND contact_id = :contact_id",
        contact_id=validation.contact_id_of(contact.name),
    )


def find(connection: Connection, owner: str, name: str) -> Contact | None:
    """Returns the contact of a name. Raises InvalidError if it is not a contact's name."""
    parameters = {"owner": owner, "contact_id": validation.contact_id_of(name)}
    statement = f"{SELECT} AND contact_id = :contact_id"
    row = connection.execute(text(statement), parameters).first()
    return contact_of(row) if row else None


def by_name(
    connection: Connection,
    owner: str,
    prefix: str,
    after: tuple[str, str],
    limit: int,
    max_bytes: int,
) -> Sequence[ContactRow]:
    """Returns rows whose name_key has the prefix, after a name_key and id, in their order.

    They end with the one that makes them larger than max_bytes.
    """
    select = (
        f"{SELECT} AND (name_key, contact_id) > (:last_key, :last_id)"
        " AND name_key >= :prefix AND name_key < :end"
    )
    statement = text(until_size(select, "person", "name_key, contact_id"))
    parameters = {
        "owner": owner,
        "last_key": after[0],
        "last_id": after[1],
        "prefix": prefix,
        "end": paging.after(prefix),
        "limit": limit,
        "max_bytes": max_bytes,
    }
    return connection.execute(statement, parameters).all()


def by_id(
    connection: Connection, owner: str, after: str, limit: int, max_bytes: int
) -> Sequence[ContactRow]:
    """Returns rows after an id, in the order of their ids. They end as those of by_name."""
    statement = text(until_size(f"{SELECT} AND contact_id > :after", "person", "contact_id"))
    parameters = {"owner": owner, "after": after, "limit": limit, "max_bytes": max_bytes}
    return connection.execute(statement, parameters).all()
