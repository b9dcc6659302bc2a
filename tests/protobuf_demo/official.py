"""The contract of protobuf's Python tutorial, built from its numbers and types alone.

It shares no code with the chapter, and lives in a pool of its own beside the chapter's contract of
the same name: what an independent program would write and read.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

_Field = descriptor_pb2.FieldDescriptorProto


def _field(name, number, kind, *, repeated=False, type_name=None):
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    return _Field(name=name, number=number, type=kind, label=label, type_name=type_name)


def _file():
    file = descriptor_pb2.FileDescriptorProto(
        name="addressbook.proto",
        package="tutorial",
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto"],
    )
    person = file.message_type.add(name="Person")
    phone_type = person.enum_type.add(name="PhoneType")
    for number, name in enumerate(("MOBILE", "HOME", "WORK")):
        phone_type.value.add(name=name, number=number)
    phone = person.nested_type.add(name="PhoneNumber")
    phone.field.append(_field("number", 1, _Field.TYPE_STRING))
    kind = ".tutorial.Person.PhoneType"
    phone.field.append(_field("type", 2, _Field.TYPE_ENUM, type_name=kind))
    person.field.append(_field("name", 1, _Field.TYPE_STRING))
    person.field.append(_field("id", 2, _Field.TYPE_INT32))
    person.field.append(_field("email", 3, _Field.TYPE_STRING))
    kind = ".tutorial.Person.PhoneNumber"
    person.field.append(_field("phones", 4, _Field.TYPE_MESSAGE, repeated=True, type_name=kind))
    kind = ".google.protobuf.Timestamp"
    person.field.append(_field("last_updated", 5, _Field.TYPE_MESSAGE, type_name=kind))
    book = file.message_type.add(name="AddressBook")
    kind = ".tutorial.Person"
    book.field.append(_field("people", 1, _Field.TYPE_MESSAGE, repeated=True, type_name=kind))
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
_pool.AddSerializedFile(_file().SerializeToString())

AddressBook = message_factory.GetMessageClass(_pool.FindMessageTypeByName("tutorial.AddressBook"))
