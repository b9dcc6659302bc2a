"""Facts that the chapter's pages state, and that no played session shows."""

import re
from datetime import UTC, datetime

import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int32Value

from protobuf_demo.addressbook_pb2 import Person
from protobuf_demo.evolution.v1.changes_pb2 import OrderAfter, OrderBefore, State
from protobuf_demo.evolution.v1.evolution_pb2 import Today
from protobuf_demo.evolution.v1.types_pb2 import Bytes, String
from protobuf_demo.syntax.v1 import proto3_pb2
from protobuf_demo.values.v1.values_pb2 import Event, Guest, UpdateEvent
from tests.conftest import ROOT, python


def assign(message, **fields):
    """Sets attributes of a message."""
    for name, value in fields.items():
        setattr(message, name, value)


@pytest.mark.parametrize(
    ("mistake", "kind", "text"),
    [
        (lambda: Person("Ada"), TypeError, "No positional arguments allowed"),
        (lambda: Person(nmae="Ada"), ValueError, 'Protocol message Person has no "nmae" field.'),
        (
            lambda: assign(Person(), nmae="Ada"),
            AttributeError,
            'Protocol message Person has no "nmae" field.',
        ),
        (lambda: Person(name=5), TypeError, "bad argument type for built-in operation"),
        (
            lambda: Person(id="7"),
            TypeError,
            "'str' object cannot be interpreted as an integer",
        ),
        (lambda: Person(id=2**31), ValueError, "Value out of range: 2147483648"),
        (
            lambda: assign(Person(), phones=[]),
            AttributeError,
            'Assignment not allowed to map, or repeated field "phones" in protocol message object.',
        ),
        (lambda: State.Name(2), ValueError, "Enum State has no name defined for value 2"),
    ],
)
def test_a_mistake_raises_what_the_page_says(mistake, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        mistake()

    pages = "".join(page.read_text() for page in ROOT.glob("protobuf_demo/**/README.md"))
    assert text in pages


def test_the_message_of_the_drawing_is_smaller_than_its_json():
    assert Person(name="Ada", id=150).SerializeToString().hex(" ") == "0a 03 41 64 61 10 96 01"
    assert len('{"name":"Ada","id":150}') == 23


def test_a_single_message_cannot_be_assigned_either():
    with pytest.raises(AttributeError, match='Assignment not allowed to message field "event"'):
        assign(UpdateEvent(), event=Event())


def test_reading_a_missing_key_of_a_map_adds_it():
    event = Event()

    assert (event.rooms.get(1), 1 in event.rooms) == (None, False)
    assert (event.rooms[1], dict(event.rooms)) == ("", {1: ""})


def test_an_empty_member_of_a_oneof_is_set():
    assert Event(address="").WhichOneof("place") == "address"


def test_any_does_not_unpack_another_type():
    event = Event()
    event.attachment.Pack(Guest(name="Ada"))

    assert event.attachment.Unpack(Event()) is False


def test_struct_takes_json_and_nothing_else():
    extra = Event().extra
    extra.update({"a": {"b": (1,)}})

    assert json_format.MessageToDict(extra) == {"a": {"b": [1.0]}}
    assert dict(extra)["a"] == extra["a"]
    assert not isinstance(dict(extra)["a"], dict)
    for value in (b"x", datetime(2026, 1, 1, tzinfo=UTC)):
        with pytest.raises(ValueError, match="Unexpected type"):
            extra.update({"a": value})


def test_a_naive_datetime_is_taken_as_utc_and_does_not_compare():
    moment = datetime(2026, 3, 1, 19, 30, tzinfo=UTC)
    assigned, converted = Event(begins=moment), Timestamp()
    converted.FromDatetime(moment.replace(tzinfo=None))

    assert assigned.begins == converted
    assert converted.ToDatetime() == moment.replace(tzinfo=None)
    assert converted.ToDatetime() != moment
    with pytest.raises(TypeError, match="can't compare offset-naive and offset-aware datetimes"):
        assert converted.ToDatetime() < moment


def test_a_mask_is_checked_on_demand_and_by_json():
    misspelt = FieldMask(paths=["tittle"])
    unusual = FieldMask(paths=["line_1"])

    assert not misspelt.IsValidForDescriptor(Event.DESCRIPTOR)
    assert json_format.MessageToJson(misspelt) == '"tittle"'
    with pytest.raises(ValueError, match='The character after a "_" must be a lowercase letter'):
        unusual.ToJsonString()


def test_a_mask_appends_to_repeated_fields_unless_told_to_replace_them():
    mask, source = FieldMask(paths=["guests"]), Event(guests=[Guest(name="Grace")])
    merged, replaced = (Event(guests=[Guest(name="Ada")]) for _ in range(2))

    mask.MergeMessage(source, merged)
    mask.MergeMessage(source, replaced, replace_repeated_field=True)

    assert [guest.name for guest in merged.guests] == ["Ada", "Grace"]
    assert [guest.name for guest in replaced.guests] == ["Grace"]


def test_optional_is_smaller_than_a_wrapper():
    assert len(Event(limit=Int32Value(value=5)).SerializeToString()) == 4


def test_json_of_a_newer_contract_is_refused_unless_unknown_fields_are_ignored():
    text = '{"name": "Ada", "age": 7}'

    with pytest.raises(json_format.ParseError, match='has no field named "age"'):
        json_format.Parse(text, Today())
    assert json_format.Parse(text, Today(), ignore_unknown_fields=True) == Today(name="Ada")


def test_json_that_sets_two_members_of_a_oneof_is_refused():
    text = json_format.MessageToJson(OrderBefore(email="ada@example.org", phone="112"))

    with pytest.raises(json_format.ParseError, match="should not have multiple"):
        json_format.Parse(text, OrderAfter())


def test_of_several_strings_a_reader_of_one_gets_the_last():
    data = String(value="a").SerializeToString() + String(value="b").SerializeToString()

    assert String.FromString(data) == String(value="b")


def test_a_string_that_is_not_utf8_refuses_the_whole_message():
    with pytest.raises(DecodeError, match="String field had bad UTF-8"):
        String.FromString(Bytes(value=b"\xff").SerializeToString())


def test_edition_2024_exports_top_level_types_and_hides_nested_ones(tmp_path):
    (tmp_path / "nested.proto").write_text(
        'edition = "2024";\nmessage Outer { message Inner {} export message Open {} }\n'
    )
    (tmp_path / "user.proto").write_text(
        'edition = "2024";\nimport "nested.proto";\n'
        "message User { Outer outer = 1; Outer.Open open = 2; Outer.Inner inner = 3; }\n"
    )

    result = protoc(tmp_path, "user.proto")

    assert result.returncode == 1
    assert re.findall(r'Symbol "([\w.]+)"', result.stderr) == ["Outer.Inner"]


def test_a_proto3_contract_moves_to_an_edition_without_a_change_on_the_wire(tmp_path):
    proto3 = (ROOT / "protobuf_demo/syntax/v1/proto3.proto").read_text()
    implicit = 'edition = "2023";\noption features.field_presence = IMPLICIT;'
    explicit = "int32 seats = 2 [features.field_presence = EXPLICIT];"
    moved = proto3.replace('syntax = "proto3";', implicit)
    moved = moved.replace("optional int32 seats = 2;", explicit)
    (tmp_path / "moved.proto").write_text(moved)

    assert protoc(tmp_path, "moved.proto").returncode == 0
    program = "import moved_pb2; print(moved_pb2.Guest3(name='', seats=0).SerializeToString())"
    result = python("-c", program, env={"PYTHONPATH": str(tmp_path)})

    assert proto3_pb2.Guest3(name="", seats=0).SerializeToString() == b"\x10\x00"
    assert result.stdout == "b'\\x10\\x00'\n"


def protoc(folder, file):
    """Compiles a file in a folder."""
    return python("-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={folder}", file)
