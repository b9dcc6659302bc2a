"""Shows the value of a field that nobody has set, and whether you can tell.

Run it:

    python -m protobuf_demo.default_values
"""

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from protobuf_demo.defaults.v1.defaults_pb2 import EveryKind


def set_to_default(field: FieldDescriptor) -> EveryKind:
    """Makes a message in which the field was set, to the value it had anyway."""
    message = EveryKind()
    if field.message_type is None and not field.is_repeated:
        setattr(message, field.name, getattr(message, field.name))
    elif not field.is_repeated:
        getattr(message, field.name).SetInParent()
    return message  # Repeated fields and maps can be empty or not; there is nothing to set.


def default_text(field: FieldDescriptor) -> str:
    """Returns the value that a reader sees when the field was not set."""
    if field.is_repeated:
        return "{}" if field.message_type else "[]"
    if field.message_type:
        return f"{field.message_type.name}()"
    return repr(getattr(EveryKind(), field.name))


def print_table() -> None:
    """Prints one line for every kind of field."""
    print(f"{'field':13}{'default':10}{'can you tell?':15}set to its default, on the wire")
    for field in EveryKind.DESCRIPTOR.fields:
        wire = set_to_default(field).SerializeToString().hex(" ")
        can_tell = "yes, HasField" if field.has_presence else "no"
        print(f"{field.name:13}{default_text(field):10}{can_tell:15}{wire or 'nothing'}")


def print_presence() -> None:
    """Prints the same 0, not set and set, of fields without presence and with."""
    print("\nHasField where a field has no presence:")
    try:
        EveryKind(an_int32=0).HasField("an_int32")  # type: ignore[arg-type]  # As mypy would say.
    except ValueError as error:
        print(f"  ValueError: {error}")
    print("and where it has:")
    for code, message in (
        ("EveryKind()", EveryKind()),
        ("EveryKind(an_optional=0)", EveryKind(an_optional=0)),
    ):
        present = message.HasField("an_optional")
        print(f"  {code:26}an_optional is {message.an_optional}, HasField returns {present}")


def print_json() -> None:
    """Prints what the JSON mapping makes of defaults and of large numbers."""
    message = EveryKind(an_int32=0, an_optional=0, an_int64=2**53 + 1, a_bytes=b"\xff")
    print("\nJSON leaves defaults out, writes 64-bit integers as strings and bytes as base64:")
    print(" ", json_format.MessageToJson(message, indent=None))
    every = json_format.MessageToDict(EveryKind(), always_print_fields_with_no_presence=True)
    fields = len(EveryKind.DESCRIPTOR.fields)
    option = "always_print_fields_with_no_presence"
    print(f"of an empty message, {option} shows {len(every)} of {fields} fields;")
    missing = [f.json_name for f in EveryKind.DESCRIPTOR.fields if f.json_name not in every]
    print("  still absent are those with presence:", ", ".join(missing))


def main() -> None:
    print_table()
    print_presence()
    print_json()


if __name__ == "__main__":
    main()
