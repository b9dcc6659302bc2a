"""Cuts the people of an import into messages that the server accepts."""

from collections.abc import Iterable, Iterator

import grpc

from production.contacts_client.errors import ContactsError
from production.v1.contacts_pb2 import ImportContactsRequest
from protobuf_demo.addressbook_pb2 import Person

MAX_PEOPLE, MAX_BYTES = 500, 256 * 1024
"""The most that one message holds, unless one person alone is larger. gRPC keeps as many bytes of a
call for a retry."""
MAX_PERSON_BYTES = (1 << 20) - 16
"""The contract allows 1 MiB for a message, of which a few bytes frame the person."""


def in_messages(people: Iterable[Person]) -> Iterator[ImportContactsRequest]:
    """Yields all people, in messages. Raises ContactsError if no message can hold one of them.

    The server would end the call, and gRPC seldom passes its reason on to a client that is still
    writing (grpc#36066).
    """
    message, size = ImportContactsRequest(), 0
    for index, person in enumerate(people):
        added = person.ByteSize()
        if added > MAX_PERSON_BYTES:
            what = f"people[{index}] is larger than 1 MiB, got {added:,} bytes"
            raise ContactsError(grpc.StatusCode.INVALID_ARGUMENT, what)
        if message.people and (len(message.people) == MAX_PEOPLE or size + added > MAX_BYTES):
            yield message
            message, size = ImportContactsRequest(), 0
        message.people.append(person)
        size += added
    if message.people:
        yield message
