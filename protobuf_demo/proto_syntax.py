"""Compares proto2, proto3 and editions: one message, written in each of them.

Run it:

    python -m protobuf_demo.proto_syntax
"""

from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from protobuf_demo.syntax.v1.edition2023_pb2 import GuestEdition, MoodEdition
from protobuf_demo.syntax.v1.edition2024_pb2 import GuestEdition2024, MoodEdition2024
from protobuf_demo.syntax.v1.proto2_pb2 import Guest2, Mood2, dish
from protobuf_demo.syntax.v1.proto3_pb2 import Guest3, Mood3

GUESTS = (Guest2, Guest3, GuestEdition, GuestEdition2024)
UNKNOWN_MOOD = 7


def show(guest: type[Message], text: str) -> None:
    print(f"  {guest.__name__:18}{text}")


def show_required() -> None:
    print("required: a message without its name, written")
    for guest in GUESTS:
        try:
            show(guest, f"{len(guest(seats=2).SerializeToString())} bytes")
        except EncodeError as error:
            show(guest, f"EncodeError: {error}")


def show_defaults() -> None:
    print("\nexplicit defaults: seats, when nobody has set them")
    for guest in GUESTS:
        show(guest, f"{guest().seats}, HasField {guest().HasField('seats')}")


def show_presence() -> None:
    print("\npresence: a name set to '', on the wire")
    for guest in GUESTS:
        show(guest, guest(name="").SerializePartialToString().hex(" ") or "nothing")


def show_enums() -> None:
    print(f"\nclosed and open enums: mood {UNKNOWN_MOOD}, which no contract names")
    data = Guest3(name="Ada", mood=Mood3.ValueType(UNKNOWN_MOOD)).SerializeToString()
    for kind in GUESTS:
        guest = kind.FromString(data)
        kept = guest.SerializeToString() == data
        unknown = len(UnknownFieldSet(guest))
        show(kind, f"mood {guest.mood}, unknown fields: {unknown}, sent on: {kept}")


def show_text() -> None:
    print("\nUTF-8: a name of one byte, ff")
    for kind in GUESTS:
        try:
            show(kind, repr(kind.FromString(b"\x0a\x01\xff").name))
        except DecodeError:
            show(kind, "DecodeError")


def show_extensions() -> None:
    print("\nextensions: a dish, added to Guest2 from outside")
    guest = Guest2(name="Ada")
    guest.Extensions[dish] = "soup"
    data = guest.SerializeToString()
    show(Guest2, Guest2.FromString(data).Extensions[dish])
    for kind in GUESTS[1:]:
        show(kind, f"unknown fields: {len(UnknownFieldSet(kind.FromString(data)))}")


def show_wire() -> None:
    print("\non the wire, with all fields set: no difference at all")
    for guest in (
        Guest2(name="Ada", seats=2, mood=Mood2.MOOD2_MERRY),
        Guest3(name="Ada", seats=2, mood=Mood3.MOOD3_MERRY),
        GuestEdition(name="Ada", seats=2, mood=MoodEdition.MOOD_EDITION_MERRY),
        GuestEdition2024(name="Ada", seats=2, mood=MoodEdition2024.MOOD_EDITION2024_MERRY),
    ):
        show(type(guest), guest.SerializeToString().hex(" "))


def main() -> None:
    show_required()
    show_defaults()
    show_presence()
    show_enums()
    show_text()
    show_extensions()
    show_wire()


if __name__ == "__main__":
    main()
