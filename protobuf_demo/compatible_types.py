"""Changes the type of a field: what does a reader with the other contract get?

Run it:

    python -m protobuf_demo.compatible_types
"""

from typing import Any

from google.protobuf.message import DecodeError, Message

from protobuf_demo.evolution.v1.types_pb2 import (
    Bool,
    Bytes,
    Fixed32,
    Int32,
    Int64,
    RepeatedInt32,
    Sint32,
    String,
    Uint32,
)

CASES: list[tuple[Message, type[Message]]] = [
    (Int32(value=-1), Int64),
    (Int64(value=2**32 + 5), Int32),
    (Int32(value=7), Bool),
    (Int32(value=-1), Uint32),
    (Int32(value=-1), Sint32),
    (Int32(value=7), Fixed32),
    (Int32(value=7), String),
    (RepeatedInt32(value=[1, 2]), Int32),
    (Int32(value=7), RepeatedInt32),
    (String(value="é"), Bytes),
    (Bytes(value=b"\xff"), String),
]


def name(kind: type[Message]) -> str:
    """Returns the type of a message's field as a .proto spells it."""
    return kind.DESCRIPTOR.name.lower().replace("repeated", "repeated ")


def read(data: bytes, kind: type[Message]) -> str:
    """Returns the value that a reader of this kind finds in data."""
    try:
        return repr(value_of(kind.FromString(data)))
    except DecodeError as error:
        return f"DecodeError: {error}"


def value_of(message: Any) -> object:
    """Returns the value in a message of any of these kinds."""
    return message.value


def main() -> None:
    print(f"{'written as':16}{'value':13}{'read as':16}value")
    for message, kind in CASES:
        value = read(message.SerializeToString(), kind)
        print(f"{name(type(message)):16}{value_of(message)!r:13}{name(kind):16}{value}")


if __name__ == "__main__":
    main()
