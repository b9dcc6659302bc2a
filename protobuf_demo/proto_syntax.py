"""proto2, proto3 and editions: what really differs, asked of one message in all three.

Run it:

    python -m protobuf_demo.proto_syntax
"""

from google.protobuf.message import EncodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from protobuf_demo.syntax.v1 import proto2_pb2
from protobuf_demo.syntax.v1.edition2023_pb2 import GuestEdition, MoodEdition
from protobuf_demo.syntax.v1.proto2_pb2 import Guest2
from protobuf_demo.syntax.v1.proto3_pb2 import Guest3, Mood3

UNKNOWN_MOOD = 7


def print_required() -> None:
    print("required: a message without its name, written and read")
    for kind in (Guest2, Guest3, GuestEdition):
        try:
            written = f"{len(kind(seats=2).SerializeToString())} bytes"
        except EncodeError as error:
            written = f"EncodeError: {error}"
        print(f"  {kind.__name__:13}{written}")
    read = Guest2.FromString(Guest3(seats=2).SerializeToString())
    print(f"  Guest2 read all the same; IsInitialized() says {read.IsInitialized()}")


def print_defaults() -> None:
    print("\nexplicit defaults: seats when nobody set them, and whether that shows")
    for guest in (Guest2(), Guest3(), GuestEdition()):
        print(f"  {type(guest).__name__:13}{guest.seats}, HasField {guest.HasField('seats')}")


def print_presence() -> None:
    print("\npresence: a name set to '', on the wire")
    for guest in (Guest2(name=""), Guest3(name=""), GuestEdition(name="")):
        wire = guest.SerializeToString().hex(" ") or "nothing"
        print(f"  {type(guest).__name__:13}{wire}")


def print_enums() -> None:
    print(f"\nclosed and open enums: mood {UNKNOWN_MOOD}, which no contract names")
    wire = Guest3(name="Ada", mood=Mood3.ValueType(UNKNOWN_MOOD)).SerializeToString()
    for kind in (Guest2, Guest3, GuestEdition):
        guest = kind.FromString(wire)
        unknown = len(UnknownFieldSet(guest))
        kept = guest.SerializeToString() == wire
        print(f"  {kind.__name__:13}mood {guest.mood}, unknown fields: {unknown}, sent on: {kept}")


def print_extensions() -> None:
    print("\nextensions: a dish, added to Guest2 from outside")
    guest = Guest2(name="Ada")
    guest.Extensions[proto2_pb2.dish] = "soup"
    wire = guest.SerializeToString()
    print(f"  Guest2       {Guest2.FromString(wire).Extensions[proto2_pb2.dish]}")
    for kind in (Guest3, GuestEdition):
        print(f"  {kind.__name__:13}unknown fields: {len(UnknownFieldSet(kind.FromString(wire)))}")


def print_wire() -> None:
    print("\nand on the wire, where all fields of this message are set, nothing differs at all")
    for guest in (
        Guest2(name="Ada", seats=2, mood=proto2_pb2.MOOD2_MERRY),
        Guest3(name="Ada", seats=2, mood=Mood3.MOOD3_MERRY),
        GuestEdition(name="Ada", seats=2, mood=MoodEdition.MOOD_EDITION_MERRY),
    ):
        print(f"  {type(guest).__name__:13}{guest.SerializeToString().hex(' ')}")


def main() -> None:
    print_required()
    print_defaults()
    print_presence()
    print_enums()
    print_extensions()
    print_wire()


if __name__ == "__main__":
    main()
