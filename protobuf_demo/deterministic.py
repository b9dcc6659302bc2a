"""Serializes equal messages: when are their bytes equal, too?

Run it twice, and compare:

    python -m protobuf_demo.deterministic
"""

from protobuf_demo.values.v1.values_pb2 import Event


def keys(data: bytes) -> str:
    """Returns the keys of the map in data, in the order of their bytes."""
    entries = data.split(b"\x0a\x01")[1:]  # An entry begins with its key: field 1, one character.
    return "".join(chr(entry[0]) for entry in entries)


def main() -> None:
    event = Event()
    event.extra.update(dict.fromkeys("ABCDEFGH"))
    data = event.SerializeToString()
    print("SerializeToString()                   ", keys(data))
    data = event.SerializeToString(deterministic=True)
    print("SerializeToString(deterministic=True) ", keys(data))

    print("\nFrom two newer programs came fields 20 and 21, each time in another order:")
    one = Event.FromString(b"\xa0\x01\x07\xa8\x01\x08")
    two = Event.FromString(b"\xa8\x01\x08\xa0\x01\x07")
    print("  equal messages:", one == two)
    same = one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)
    print("  equal bytes, deterministic:", same)


if __name__ == "__main__":
    main()
