"""Takes the bytes of a message apart: field number, wire type, length, value.

The format is described at https://protobuf.dev/programming-guides/encoding/.

Run it on a built-in person, or on an address book file:

    python -m protobuf_demo.wire_format
    python -m protobuf_demo.wire_format build/addressbook.data
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from protobuf_demo import address_book
from protobuf_demo.addressbook_pb2 import AddressBook, Person
from protobuf_demo.terminal import OutputError, cut, escaped, pad, show, width

VARINT, I64, LEN, I32 = 0, 1, 2, 5
"""The wire types in use. 3 and 4 are groups, which proto3 does not have."""
FIXED_SIZE = {I64: 8, I32: 4}
WIDEST_VALUE = 40
"""Columns. The value of a longer field is cut; its bytes are all shown."""

EXAMPLE = Person(
    name="Ada",
    id=150,
    phones=[Person.PhoneNumber(number="555-4321", type=Person.HOME)],
    last_updated=Timestamp(seconds=-1),
)


class Row(NamedTuple):
    """One field: where it begins, and what it holds."""

    at: str
    number: str
    field: str
    wire: str
    value: str
    data: str


HEADINGS = Row("at", "no", "field", "wire", "value", "bytes")


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns the varint that begins at a position, and the position after it.

    Each byte carries seven bits, the lowest first. A high bit of 1 means that another byte follows.
    """
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1


def annotate(data: bytes, descriptor: Descriptor, start: int = 0, depth: int = 0) -> Iterator[Row]:
    """Yields a row for every field in data, which must be a valid message of the described type.

    Raises ValueError if it holds a group.
    """
    at = 0
    while at < len(data):
        begin = at
        tag, at = read_varint(data, at)
        number, wire_type = tag >> 3, tag & 0b111
        field = descriptor.fields_by_number.get(number)
        inner = field.message_type if field and wire_type == LEN else None
        if wire_type == VARINT:
            value, end = read_varint(data, at)
            kind, text = "VARINT", varint_text(value, field)
        elif wire_type == LEN:
            length, at = read_varint(data, at)
            end = at + length
            kind, text = f"LEN {length}", "" if inner else len_text(data[at:end], field)
        elif wire_type not in FIXED_SIZE:
            raise ValueError("it holds a group, which this lesson does not take apart")
        else:
            end = at + FIXED_SIZE[wire_type]
            kind, text = f"I{8 * FIXED_SIZE[wire_type]}", data[at:end].hex(" ")
        shown = data[begin : at if inner else end].hex(" ")
        name = "  " * depth + (field.name if field else "(unknown)")
        yield Row(str(start + begin), str(number), name, kind, text, shown)
        if inner:
            yield from annotate(data[at:end], inner, start + at, depth + 1)
        at = end


def varint_text(value: int, field: FieldDescriptor | None) -> str:
    """Returns the number, and for an enum its name. Negative ones are 64-bit two's complement."""
    signed = value - 2**64 if value >= 2**63 else value
    if field and field.enum_type and signed in field.enum_type.values_by_number:
        return f"{signed} = {field.enum_type.values_by_number[signed].name}"
    return str(signed)


def len_text(data: bytes, field: FieldDescriptor | None) -> str:
    """Returns a string as text, other bytes in hexadecimal."""
    is_text = field and field.type == FieldDescriptor.TYPE_STRING
    return cut(escaped(repr(data.decode())) if is_text else data.hex(" "), WIDEST_VALUE)


def table(rows: list[Row]) -> str:
    """Lays the rows out in columns."""
    rows = [HEADINGS, *rows]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{row.at:>{widths[0]}}  {row.number:>{widths[1]}}  {row.field:{widths[2]}}  "
        f"{row.wire:{widths[3]}}  {pad(row.value, widths[4])}  {row.data}"
        for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the bytes of a message apart.")
    parser.add_argument("file", type=Path, nargs="?", help="an address book (default: one person)")
    args = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends us without a traceback.
    data, descriptor = EXAMPLE.SerializeToString(), Person.DESCRIPTOR
    try:
        if args.file:
            address_book.read(args.file)
            data, descriptor = args.file.read_bytes(), AddressBook.DESCRIPTOR
        show(table(list(annotate(data, descriptor))))
    except OutputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {args.file}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {args.file}: {error}")


if __name__ == "__main__":
    main()
