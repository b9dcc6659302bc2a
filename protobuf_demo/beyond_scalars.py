"""Sends values that are more than a number or a string: Python → bytes → JSON → Python.

Run it:

    python -m protobuf_demo.beyond_scalars
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int32Value

from protobuf_demo.terminal import cut
from protobuf_demo.values.v1.values_pb2 import Event, Guest, UpdateEvent

M = TypeVar("M", bound=Message)


def show(kind: str, given: object, message: M, back: Callable[[M], object]) -> None:
    """Prints a value on its way through bytes and JSON, and what back makes of it at the end."""
    data = message.SerializeToString()
    received = message.FromString(data)
    try:
        text = json_format.MessageToJson(received, indent=None)
        received = json_format.Parse(text, type(message)())
    except TypeError as error:
        text = f"TypeError: {error}"
    print(f"{kind}\n  Python  {given!r}".rstrip())
    print(f"  bytes   {cut(data.hex(' '), 65)}")
    print(f"  JSON    {text}")
    print(f"  Python  {back(received)!r}".rstrip())


def place(event: Event) -> str:
    """Returns where an event is."""
    match event.WhichOneof("place"):
        case "address":
            return f"at {event.address}"
        case "url":
            return f"online at {event.url}"
        case None:
            return "not known yet"


def show_fields() -> None:
    """Shows oneof, map and repeated messages."""
    address, url = "1 High Street", "example.org"
    show("oneof, both set", (address, url), Event(address=address, url=url), place)
    rooms = {101: "Library"}
    show("map", rooms, Event(rooms=rooms), lambda event: dict(event.rooms))
    guests = ["Ada", "Grace"]
    event = Event(guests=[Guest(name=name) for name in guests])
    show("repeated messages", guests, event, lambda event: [guest.name for guest in event.guests])


def show_any() -> None:
    """Shows a message of any type, known here and not."""
    event = Event()
    event.attachment.Pack(Guest(name="Ada"))
    show("Any", Guest(name="Ada"), event, unpacked)
    unknown = Any(type_url="type.googleapis.com/party.v1.Cake", value=b"\x08\x01")
    show("Any, unknown", unknown.type_url, Event(attachment=unknown), stored)


def stored(event: Event) -> bytes:
    """Returns the bytes of an attachment of any type."""
    return event.attachment.value


def unpacked(event: Event) -> Guest | None:
    """Returns the guest that is attached, or None if it is something else."""
    guest = Guest()
    return guest if event.attachment.Unpack(guest) else None


def show_struct() -> None:
    """Shows JSON without a contract."""
    extra = {"seats": [7, 2**53 + 1, None]}
    event = Event()
    event.extra.update(extra)
    show("Struct", extra, event, lambda event: json_format.MessageToDict(event.extra))


def show_times() -> None:
    """Shows moments and spans of time."""
    begins = datetime(2026, 3, 1, 19, 30, tzinfo=timezone(timedelta(hours=1)))
    naive = datetime(2026, 3, 1, 19, 30)  # noqa: DTZ001 - without a time zone: the common mistake.
    for kind, moment in (("Timestamp", begins), ("Timestamp, naive", naive)):
        event = Event()
        event.begins.FromDatetime(moment)
        show(kind, str(moment), event, utc)
    exact = Timestamp(nanos=123456789)
    show("Timestamp, nanoseconds", exact, Event(begins=exact), utc)
    event = Event()
    event.lasts.FromTimedelta(timedelta(minutes=90))
    show("Duration", "1:30:00", event, lambda event: str(event.lasts.ToTimedelta()))


def utc(event: Event) -> str:
    """Returns when an event begins."""
    return str(event.begins.ToDatetime(tzinfo=UTC))


def show_mask() -> None:
    """Shows a change of one field, and the removal of another."""
    tea = Event(title="Tea", address="1 High Street")
    paths = ["title", "address"]
    update = UpdateEvent(event=Event(title="Dinner"), update_mask=FieldMask(paths=paths))
    show("FieldMask", paths, update, lambda update: updated(tea, update))


def updated(event: Event, update: UpdateEvent) -> Event:
    """Changes an event as an update asks for."""
    update.update_mask.MergeMessage(update.event, event)
    return event


def show_wrapper() -> None:
    """Shows how proto3 told 0 from nothing before it had optional."""
    event = Event(limit=Int32Value(value=0))
    show("wrapper", 0, event, limit)


def limit(event: Event) -> int | None:
    """Returns the limit of an event, or None if it has none."""
    return event.limit.value if event.HasField("limit") else None


def main() -> None:
    show_fields()
    show_any()
    show_struct()
    show_times()
    show_mask()
    show_wrapper()


if __name__ == "__main__":
    main()
