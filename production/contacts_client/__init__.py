"""A client library for ContactService:

    async with ContactsClient("localhost:50051", credentials) as client:
        contact = await client.get("contacts/ada-1", timeout=2)

Its methods are in client.py.
"""

from production.calling.calls import CALL_SECONDS, STREAM_SECONDS, CallOptions
from production.contacts_client.client import ContactsClient
from production.contacts_client.errors import ClosedError, ContactsError

__all__ = [
    "CALL_SECONDS",
    "SIGNATURE",
    "STREAM_SECONDS",
    "CallOptions",
    "ClosedError",
    "ContactsClient",
    "ContactsError",
]

SIGNATURE = "x-contacts-signature"
"""The metadata key of a call's signature, the same as in production/contacts/access.py."""
