"""Fields that this release does not know. It cannot validate them, so it does not let them in."""

from typing import TypeVar

from google.protobuf.message import Message

AnyMessage = TypeVar("AnyMessage", bound=Message)


def without(message: AnyMessage) -> AnyMessage:
    """Returns a copy that lacks them, at any depth."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known


def only(message: AnyMessage) -> AnyMessage:
    """Returns a copy that has nothing else, at the top."""
    unknown = type(message)()
    unknown.CopyFrom(message)
    for field in message.DESCRIPTOR.fields:
        unknown.ClearField(field.name)
    return unknown
