"""Checks requests by the rules in their contract, in front of all methods of a server."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status
from protovalidate import CompilationError, EvaluationError, Validator, Violation

from production.lessons.interceptors import kind_of
from production.serving.layers.statuses import invalid

MAX_BYTES = 4096
"""Of a larger message only the first mistake is reported: it can hold tens of thousands, and
each costs protovalidate 20 µs and 3 kB."""
VALIDATOR = Validator()
"""It keeps what it has compiled, so there is one for all. Threads may share it."""
log = logging.getLogger(__name__)


def path(violation: Violation) -> str:
    """Returns the field of a violation as google.rpc.BadRequest names it: people[0].name."""
    found = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        found += f".{element.field_name}"
        if element.subscript:  # An index, or the key of a map.
            found += f"[{json.dumps(element.subscript.value)}]"
    return found.removeprefix(".")


def violations(message: Message) -> list[tuple[str, str]]:
    """Returns the fields that break rules, and what is wrong with each.

    Raises CompilationError or EvaluationError if a rule is wrong.
    """
    found = VALIDATOR.collect_violations(message, fail_fast=message.ByteSize() > MAX_BYTES)
    return [(path(violation), violation.proto.message) for violation in found]


def try_rules(service: ServiceDescriptor) -> None:
    """Evaluates the rules of a service's requests, each on an empty message.

    Raises CompilationError or EvaluationError. Without this, the first caller would meet them.
    """
    waiting = [method.input_type for method in service.methods]
    tried: set[Descriptor] = set()
    while waiting:
        kind = waiting.pop()
        if kind not in tried:
            tried.add(kind)
            violations(GetMessageClass(kind)())
            waiting += [field.message_type for field in kind.fields if field.message_type]


def check(message: Message, context: grpc.ServicerContext, where: str = "") -> None:
    """Aborts the call with INVALID_ARGUMENT if the message breaks rules."""
    try:
        found = violations(message)
    except (CompilationError, EvaluationError) as error:  # Our mistake, not the caller's.
        log.error("a rule of %s cannot be evaluated: %s", message.DESCRIPTOR.full_name, error)
        context.abort(grpc.StatusCode.INTERNAL, "a rule of the contract cannot be evaluated")
    if found:
        status = invalid([(field, f"{what}{where}") for field, what in found])
        context.abort_with_status(rpc_status.to_status(status))


class Rules(grpc.ServerInterceptor):
    """Checks every message of every call before the servicer sees it."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None:  # No such method: gRPC answers UNIMPLEMENTED.
            return None
        method = getattr(handler, kind_of(handler))

        def one(request: Message, context: grpc.ServicerContext) -> Any:
            check(request, context)
            return method(request, context)

        def many(requests: Iterator[Message], context: grpc.ServicerContext) -> Any:
            return method(checked(requests, context), context)

        return getattr(grpc, f"{kind_of(handler)}_rpc_method_handler")(
            many if handler.request_streaming else one,
            handler.request_deserializer,
            handler.response_serializer,
        )


def checked(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
    """Yields the messages of a stream that are right; aborts the call at the first other one."""
    for number, request in enumerate(requests, 1):
        check(request, context, f", in message {number} of the stream")
        yield request
