"""Builds statuses with rich details (google.rpc.Status, https://google.aip.dev/193)."""

import math
from collections.abc import Sequence
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

MAX_TRAILER_BYTES = 3_000
"""As they are sent, the status's message and details stay below 4 kB, with room for what else is in
the trailers: nginx's default buffer is one memory page, and some clients refuse from 8 kB on."""
MAX_MESSAGE_BYTES = 600
RETRY_DELAY_MS = 500


def status(code: grpc.StatusCode, message: str, *details: Message) -> Status:
    """Builds a status."""
    built = Status(code=code.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        built.details.append(packed)
    return built


def invalid(violations: Sequence[tuple[str, str]]) -> Status:
    """Builds INVALID_ARGUMENT from fields and descriptions, as many as fit."""
    shown = BadRequest()
    field, description = violations[0]
    more = f", and {len(violations) - 1} more" if len(violations) > 1 else ""
    message = f"{field} {description}{more}"
    while len(quote(message)) > MAX_MESSAGE_BYTES:
        message = message[:-1]
    for field, description in violations:
        shown.field_violations.add(field=field, description=description)
        built = status(grpc.StatusCode.INVALID_ARGUMENT, message, shown)
        if trailer_bytes(built) > MAX_TRAILER_BYTES:
            del shown.field_violations[-1]
            break
    return status(grpc.StatusCode.INVALID_ARGUMENT, message, shown)


def trailer_bytes(built: Status) -> int:
    """Returns how many bytes a status takes in trailers: details are sent as base64."""
    size: int = len(quote(built.message)) + math.ceil(built.ByteSize() / 3) * 4
    return size


def reason(domain: str, reason: str, **metadata: str) -> ErrorInfo:
    """Builds the detail by which programs distinguish errors."""
    return ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def retry() -> RetryInfo:
    """Builds the detail that says when to retry."""
    return RetryInfo(retry_delay=Duration(nanos=RETRY_DELAY_MS * 1_000_000))
