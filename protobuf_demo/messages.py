"""Makes, changes, sends and copies a message: the part of protobuf's API that you need every day.

Run it:

    python -m protobuf_demo.messages
"""

from protobuf_demo.addressbook_pb2 import Person


def main() -> None:
    ada = Person(name="Ada", id=1)
    ada.email = "ada@example.org"
    ada.last_updated.seconds = 1_800_000_000

    ada.phones.add(number="020 7946 0000", type=Person.HOME)
    ada.phones.append(Person.PhoneNumber(number="077 0090 0123"))
    print(ada)
    print([Person.PhoneType.Name(phone.type) for phone in ada.phones])

    print(ada.HasField("last_updated"))
    ada.ClearField("last_updated")
    print(ada.HasField("last_updated"), ada.last_updated.seconds)

    data = ada.SerializeToString()
    received = Person.FromString(data)
    print(len(data), received == ada)

    copy = Person()
    copy.CopyFrom(ada)
    copy.MergeFrom(Person(name="Ada Lovelace", phones=[Person.PhoneNumber(number="112")]))
    print(copy.name, copy.email, len(copy.phones))


if __name__ == "__main__":
    main()
