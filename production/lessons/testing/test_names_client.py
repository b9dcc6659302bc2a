"""Ten cases of a client, each against a server that follows a script."""

from itertools import islice

import grpc
import pytest

from production.lessons.testing.names_client import (
    Names,
    NoAnswerError,
    OrderError,
    RefusedError,
)
from production.lessons.testing.scripted_server import ScriptedServer, fail, hold
from production.v1.contacts_pb2 import Contact, ListContactsResponse, WatchContactsResponse
from protobuf_demo.addressbook_pb2 import Person

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE

ADA = Contact(name="contacts/ada", person=Person(name="Ada"))
BOB = Contact(name="contacts/bob", person=Person(name="Bob"))
STARTED = WatchContactsResponse(kind=WatchContactsResponse.KIND_STARTED, position="1")


def created(contact: Contact, position: str) -> WatchContactsResponse:
    return WatchContactsResponse(
        kind=WatchContactsResponse.KIND_CREATED, contact=contact, position=position
    )


def test_a_call_has_a_deadline(server: ScriptedServer, names: Names) -> None:
    server.script("CreateContact", [ADA])

    assert names.add("Ada") == "contacts/ada"

    (attempt,) = server.attempts
    assert attempt.seconds_left is not None
    assert attempt.seconds_left < 11  # gRPC may send a little more than 10.


def test_a_late_answer_leaves_it_open_what_has_happened(
    server: ScriptedServer, channel: grpc.Channel
) -> None:
    server.script("CreateContact", [hold, ADA])

    with pytest.raises(NoAnswerError):
        Names(channel, seconds=0.2).add("Ada")


def test_a_failed_call_is_tried_again_as_the_same_request(
    server: ScriptedServer, names: Names
) -> None:
    server.script("CreateContact", [fail(UNAVAILABLE)], [fail(UNAVAILABLE)], [ADA])

    assert names.add("Ada") == "contacts/ada"

    assert [attempt.number for attempt in server.attempts] == [1, 2, 3]
    assert len({attempt.requests[0].request_id for attempt in server.attempts}) == 1


def test_a_refused_call_is_not_tried_again(server: ScriptedServer, names: Names) -> None:
    server.script("CreateContact", [fail(INVALID_ARGUMENT, "name is empty")], [ADA])

    with pytest.raises(RefusedError, match=r"^name is empty$"):
        names.add("")

    assert len(server.attempts) == 1


def test_an_empty_page_is_not_the_last(server: ScriptedServer, names: Names) -> None:
    server.script(
        "ListContacts",
        [ListContactsResponse(contacts=[ADA], next_page_token="2")],
        [ListContactsResponse(next_page_token="3")],
        [ListContactsResponse(contacts=[BOB])],
    )

    assert list(names.people()) == ["Ada", "Bob"]

    assert [attempt.requests[0].page_token for attempt in server.attempts] == ["", "2", "3"]


def test_half_a_stream_is_continued(server: ScriptedServer, names: Names) -> None:
    server.script(
        "WatchContacts",
        [STARTED, created(ADA, "2"), fail(UNAVAILABLE)],
        [STARTED, created(BOB, "3"), hold],
    )

    assert list(islice(names.changes(), 2)) == [
        ("created", "contacts/ada"),
        ("created", "contacts/bob"),
    ]

    assert [attempt.requests[0].position for attempt in server.attempts] == ["", "2"]


def test_pauses_grow_until_a_message_arrives(
    server: ScriptedServer, names: Names, pauses: list[float]
) -> None:
    server.script(
        "WatchContacts",
        [fail(UNAVAILABLE)],
        [fail(UNAVAILABLE)],
        [STARTED, created(ADA, "2"), fail(UNAVAILABLE)],
        [STARTED, created(BOB, "3"), hold],
    )

    list(islice(names.changes(), 2))

    assert pauses == [0.1, 0.2, 0.1]


def test_a_change_before_the_start_is_an_error(server: ScriptedServer, names: Names) -> None:
    server.script("WatchContacts", [created(ADA, "2"), STARTED, hold])

    with pytest.raises(OrderError):
        next(names.changes())


def test_a_watch_that_is_refused_is_not_tried_again(
    server: ScriptedServer, names: Names, pauses: list[float]
) -> None:
    server.script("WatchContacts", [fail(OUT_OF_RANGE, "too long ago")])

    with pytest.raises(RefusedError, match=r"^too long ago$"):
        next(names.changes())

    assert pauses == []


def test_a_change_of_an_unknown_kind_is_left_out(server: ScriptedServer, names: Names) -> None:
    newer = WatchContactsResponse(kind=9, contact=BOB, position="2")  # type: ignore[arg-type]
    server.script("WatchContacts", [STARTED, newer, created(ADA, "3"), hold])

    assert next(names.changes()) == ("created", "contacts/ada")
