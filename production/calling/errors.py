"""The error of a failed call, with its details, as an exception."""

from contextlib import suppress
from typing import Self

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

PLUGIN_FAILED = "Getting metadata from plugin failed with error: "
"""How gRPC begins the message when call credentials give an error. It makes the code UNAVAILABLE,
whatever the reason (grpc#19186)."""


class CallError(Exception):
    """A call failed. It can be pickled.

    The details are those of https://google.aip.dev/193: `reason`, `domain` and `metadata` are from
    ErrorInfo, by which programs distinguish errors; `violations` are the request's invalid fields,
    each with a description; `retry_delay` is in seconds. What the server has not sent is empty,
    or None.
    """

    def __init__(self, code: grpc.StatusCode, message: str, details: bytes = b"") -> None:
        """details is a serialized google.rpc.Status."""
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.reason = self.domain = ""
        self.metadata: dict[str, str] = {}
        self.violations: list[tuple[str, str]] = []
        self.retry_delay: float | None = None
        with suppress(DecodeError):  # Sent by something that is not our server.
            for detail in Status.FromString(details).details:
                self._read(detail.type_url.rpartition("/")[2], detail.value)

    def __str__(self) -> str:
        return self.message

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Self:
        """Converts gRPC's error."""
        code, message = error.code(), error.details() or ""
        if message.startswith(PLUGIN_FAILED):
            message = message.removeprefix(PLUGIN_FAILED)
            if message.startswith(RefusedError.MARK):
                code = grpc.StatusCode.UNAUTHENTICATED
                message = message.removeprefix(RefusedError.MARK)
        status = None
        with suppress(ValueError, DecodeError):  # Details that contradict the status.
            status = rpc_status.from_call(error)  # type: ignore[arg-type]  # Typed for sync calls.
        return cls(code, message, status.SerializeToString() if status else b"")

    def _read(self, name: str, value: bytes) -> None:
        """Takes over one detail. Raises DecodeError."""
        if name == BadRequest.DESCRIPTOR.full_name:
            violations = BadRequest.FromString(value).field_violations
            self.violations = [(each.field, each.description) for each in violations]
        elif name == ErrorInfo.DESCRIPTOR.full_name:
            info = ErrorInfo.FromString(value)
            self.reason, self.domain = info.reason, info.domain
            self.metadata = dict(info.metadata)
        elif name == RetryInfo.DESCRIPTOR.full_name:
            delay = RetryInfo.FromString(value).retry_delay
            self.retry_delay = delay.seconds + delay.nanos / 1e9


class RefusedError(Exception):
    """Raised by call credentials whose secret is not accepted: a call that fails for it is
    UNAUTHENTICATED, not UNAVAILABLE."""

    MARK = "UNAUTHENTICATED: "

    def __str__(self) -> str:
        return self.MARK + super().__str__()
