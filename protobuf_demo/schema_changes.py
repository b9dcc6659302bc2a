"""Changes a contract: a new enum value, a new name for a field, two fields that become a oneof.

Run it:

    python -m protobuf_demo.schema_changes
"""

from google.protobuf import json_format

from protobuf_demo.evolution.v1.changes_pb2 import (
    NEW_STATE_SHIPPED,
    OrderAfter,
    OrderAfterWithJsonName,
    OrderBefore,
    State,
)


def add_an_enum_value() -> None:
    print("1. A new program writes an enum value that the old one does not know:")
    old = OrderBefore.FromString(OrderAfter(state=NEW_STATE_SHIPPED).SerializeToString())
    print(f"   the old one reads {old.state}, known: {old.state in State.values()}")
    print(f"   and sends it on: {OrderAfter.FromString(old.SerializeToString()).state}")
    text = json_format.MessageToJson(OrderAfter(state=NEW_STATE_SHIPPED), indent=None)
    read_json(text, OrderBefore())


def rename_a_field() -> None:
    print("2. The field `from` is renamed to `sender`:")
    old = OrderBefore()
    setattr(old, "from", "Ada")  # A keyword of Python cannot be written old.from.
    print(f"   in bytes nothing changes: {OrderAfter.FromString(old.SerializeToString()).sender!r}")
    text = json_format.MessageToJson(old, indent=None)
    read_json(text, OrderAfter())
    kept = json_format.Parse(text, OrderAfterWithJsonName())
    print(f"   unless the contract keeps the name in JSON: {kept.sender!r}")


def move_into_a_oneof() -> None:
    print("3. Two fields become a oneof, and an old program sets both:")
    old = OrderBefore(email="ada@example.org", phone="112")
    new = OrderAfter.FromString(old.SerializeToString())
    print(f"   the new one reads email {new.email!r}, phone {new.phone!r}")


def read_json(text: str, message: OrderBefore | OrderAfter) -> None:
    """Prints JSON, and why a message cannot be read from it."""
    print(f"   as JSON {text} it is refused:")
    try:
        json_format.Parse(text, message)
    except json_format.ParseError as error:
        print(f"   ParseError: {str(error).splitlines()[0]}")


def main() -> None:
    add_an_enum_value()
    rename_a_field()
    move_into_a_oneof()


if __name__ == "__main__":
    main()
