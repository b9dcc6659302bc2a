"""A client of ContactService for a program that wants names: the code under test."""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from production.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    ListContactsRequest,
    WatchContactsRequest,
    WatchContactsResponse,
)
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person

SERVICE = "production.v1.ContactService"
SECONDS = 10.0
"""The timeout of a call with all its attempts."""
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to watch: each pause is twice as long as the one before."""
RETRIES = {
    # A watch is not named: gRPC cannot resume a stream, changes() does.
    "name": [{"service": SERVICE, "method": each} for each in ("CreateContact", "ListContacts")],
    "retryPolicy": {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    },
}
OPTIONS = [("grpc.service_config", json.dumps({"methodConfig": [RETRIES]}))]
"""Of the channel that Names is given."""
NO_ANSWER = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}
KINDS = {
    WatchContactsResponse.KIND_CREATED: "created",
    WatchContactsResponse.KIND_UPDATED: "updated",
    WatchContactsResponse.KIND_DELETED: "deleted",
}


class RefusedError(Exception):
    """The server refused the request and changed nothing."""


class NoAnswerError(Exception):
    """The server may have carried out the request, or not."""


class OrderError(Exception):
    """The server broke the order that its contract promises."""


def pause(seconds: float) -> None:
    """Sleeps for half of seconds up to all of them, so that clients do not return all at once."""
    time.sleep(random.uniform(seconds / 2, seconds))  # noqa: S311


@contextmanager
def translated() -> Iterator[None]:
    """Turns gRPC's error into RefusedError or NoAnswerError, with the server's message."""
    try:
        yield
    except grpc.RpcError as error:
        kind = NoAnswerError if error.code() in NO_ANSWER else RefusedError
        raise kind(error.details()) from error


class Names:
    """The names of contacts. Every method raises RefusedError or NoAnswerError."""

    def __init__(
        self,
        channel: grpc.Channel,
        seconds: float = SECONDS,
        pause: Callable[[float], object] = pause,
    ) -> None:
        """channel has OPTIONS; pause waits before the next attempt to watch."""
        self._stub = ContactServiceStub(channel)
        self._seconds, self._pause = seconds, pause

    def add(self, name: str) -> str:
        """Adds a person; returns the name of the new contact, contacts/{contact_id}."""
        contact = Contact(person=Person(name=name))
        request = CreateContactRequest(contact=contact, request_id=str(uuid.uuid4()))
        with translated():
            return self._stub.CreateContact(request, timeout=self._seconds).name

    def people(self) -> Iterator[str]:
        """Yields the name of each person, fetched page by page."""
        request = ListContactsRequest()
        while True:
            with translated():
                page = self._stub.ListContacts(request, timeout=self._seconds)
            yield from (contact.person.name for contact in page.contacts)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def changes(self) -> Iterator[tuple[str, str]]:
        """Yields what happens from now on, as ("created", "contacts/ada"), until it is closed.

        If the connection or the server is lost, it resumes where it was. Raises OrderError, too.
        """
        position, seconds = "", FIRST_PAUSE
        while True:
            call = self._stub.WatchContacts(WatchContactsRequest(position=position))
            try:
                for number, response in enumerate(call):
                    is_start = response.kind == WatchContactsResponse.KIND_STARTED
                    if is_start != (number == 0):
                        raise OrderError(f"message {number} of the watch is {response.kind}")
                    position, seconds = response.position, FIRST_PAUSE
                    if response.kind in KINDS:  # A newer server may know more of them.
                        yield KINDS[response.kind], response.contact.name
            except grpc.RpcError as error:
                if error.code() not in NO_ANSWER:
                    raise RefusedError(error.details()) from error
            finally:
                call.cancel()
            self._pause(seconds)
            seconds = min(2 * seconds, LAST_PAUSE)
