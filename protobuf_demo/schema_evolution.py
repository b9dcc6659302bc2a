"""Lets an old reader meet a new writer: what survives, and what goes wrong.

Run it:

    python -m protobuf_demo.schema_evolution
"""

from protobuf_demo.evolution.v1.evolution_pb2 import Mistake, Today, Yesterday


def unknown_fields_survive() -> None:
    print("1. A new program writes, an old one changes the name, the new one reads:")
    today = Today(name="Ada", id=1, nicknames=["Countess"])
    yesterday = Yesterday.FromString(today.SerializeToString())
    print(f"   the old one sees  name {yesterday.name!r}, id {yesterday.id}")
    yesterday.name = "Ada Lovelace"
    back = Today.FromString(yesterday.SerializeToString())
    print(f"   the new one reads name {back.name!r}, nicknames {list(back.nicknames)}")


def missing_fields_are_defaults() -> None:
    print("2. The old program writes, the new one reads:")
    today = Today.FromString(
        Yesterday(name="Ada", id=1, email="ada@example.org").SerializeToString()
    )
    print(f"   nicknames {list(today.nicknames)}; the dropped email is kept as an unknown field")
    back = Yesterday.FromString(today.SerializeToString())
    print(f"   and goes back to an old reader: email {back.email!r}")


def copying_by_hand_loses_them() -> None:
    print("3. An old program that copies field by field loses what it does not know:")
    old = Yesterday.FromString(Today(name="Ada", id=1, nicknames=["Countess"]).SerializeToString())
    by_hand = Yesterday(name=old.name, id=old.id)
    print(f"   by hand   {list(Today.FromString(by_hand.SerializeToString()).nicknames)}")
    copied = Yesterday()
    copied.CopyFrom(old)
    print(f"   CopyFrom  {list(Today.FromString(copied.SerializeToString()).nicknames)}")


def a_reused_number_goes_wrong() -> None:
    print("4. The number of email was given to password. No error anywhere:")
    data = Mistake(name="Ada", id=1, password="hunter2").SerializeToString()  # noqa: S106
    print(f"   the old program shows as email: {Yesterday.FromString(data).email!r}")


def main() -> None:
    unknown_fields_survive()
    missing_fields_are_defaults()
    copying_by_hand_loses_them()
    a_reused_number_goes_wrong()


if __name__ == "__main__":
    main()
