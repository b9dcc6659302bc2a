"""Carries out each request once, however often it is sent (AIP-155). Knows no gRPC."""

import uuid
from collections.abc import Callable
from typing import NamedTuple, Self, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from production.contacts.quota import Quota
from production.contacts.transaction import Write, begin_write
from production.serving.resources import NotFoundError
from production.serving.storage.database import Database
from production.serving.storage.writes import fingerprint
from production.serving.validation import InvalidError, Violation
from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    DeleteContactRequest,
    ImportContactsResponse,
    UpdateContactRequest,
)

Request = TypeVar("Request", CreateContactRequest, UpdateContactRequest, DeleteContactRequest)
Response = TypeVar("Response", Contact, Empty, ImportContactsResponse)
KEPT_REQUESTS_US = 24 * 3600 * 1_000_000
"""Microseconds for which the answer to a request id is remembered."""
KEPT_REQUESTS = 10_000
"""Answers that are remembered for one owner, the newest."""


class Once(NamedTuple):
    """A request that changes something, and can be recognized when it is sent again."""

    owner: str
    request_id: str
    """A UUID, or empty: then the request is not remembered."""
    fingerprint: bytes
    """A digest of everything else in the request."""

    @classmethod
    def of(cls, owner: str, request: Request) -> Self:
        """Takes the fingerprint of a request that is one message."""
        return cls(owner, request.request_id, fingerprint(request))

    def run(
        self,
        database: Database,
        quota: Quota,
        response_type: type[Response],
        work: Callable[[Write], Response],
    ) -> Response:
        """Does the work in a transaction, or returns what it returned for this request before.

        Raises InvalidError if the request id was used for another request, QuotaError, and
        NotFoundError if it returned a contact that has been deleted since.
        """
        with begin_write(database, quota, self.owner) as write:
            if not self.request_id:
                return work(write)
            key = str(uuid.UUID(self.request_id))
            oldest = write.now_us - KEPT_REQUESTS_US
            write.run("DELETE FROM requests WHERE created_us < :oldest", oldest=oldest)
            before = write.run(
                "SELECT fingerprint, response, contact_id FROM requests"
                " WHERE owner = :owner AND request_id = :key",
                key=key,
            )
            if before and before.contact_id and not before.response:
                raise NotFoundError(f"contacts/{before.contact_id}")  # Deleted since.
            if before and before.fingerprint != self.fingerprint:
                raise InvalidError(Violation("request_id", "was used for another request"))
            if before:
                return response_type.FromString(before.response)
            response = work(write)
            write.requests += 1
            write.run(
                "DELETE FROM requests WHERE owner = :owner AND number <= :oldest",
                oldest=write.requests - KEPT_REQUESTS,
            )
            write.run(
                "INSERT INTO requests"
                " (owner, request_id, number, fingerprint, response, created_us, contact_id)"
                " VALUES (:owner, :key, :number, :fingerprint, :response, :now, :contact_id)",
                key=key,
                number=write.requests,
                fingerprint=self.fingerprint,
                response=response.SerializeToString(),
                now=write.now_us,
                contact_id=_contact_id(response),
            )
            return response


def _contact_id(response: Message) -> str | None:
    return response.name.removeprefix("contacts/") if isinstance(response, Contact) else None
