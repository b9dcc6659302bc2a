"""The layer that turns every exception into a status."""

import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import structlog
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from production.serving.layers.adapter import (
    MAX_UNARY_BYTES,
    Context,
    DecodeError,
    TooLargeError,
    caller_may_have_gone,
)
from production.serving.layers.deadline import DrainingError
from production.serving.layers.statuses import RETRY_DELAY_MS, reason, retry, status
from production.serving.overload import OverloadedError
from production.serving.security.authorization import ForbiddenError
from production.serving.security.jwks import KeysUnavailableError
from production.serving.security.principal import RefusedError

Table = Callable[[Exception], Status | None]
"""Returns the status of an exception that the service defines, None for any other."""

log = logging.getLogger(__name__)


class Errors:
    """Turns every exception into a status with details."""

    def __init__(self, domain: str, table: Table) -> None:
        """domain is that of the reasons in details; table comes before the statuses below."""
        self._domain = domain
        self._table = table

    @asynccontextmanager
    async def __call__(self, _method: str, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the one place that must catch everything.
            if isinstance(error, NotImplementedError) and context.code():
                # A method of the contract that the servicer does not have, as generated code says
                # it. Any other NotImplementedError is a fault.
                found = status(context.code(), "the method is not implemented")
            else:
                found = self.status_of(error)
            answer = rpc_status.to_status(found)
            if isinstance(error, RefusedError):  # Operators must see attacks.
                structlog.contextvars.bind_contextvars(refused=error.reason, peer=context.peer())
            # It would keep the request in memory, in a reference cycle with its own frames.
            error.__traceback__ = None
            trailers = (*context.trailing_metadata(), *answer.trailing_metadata)
            if isinstance(error, OverloadedError):
                # C-core's retries obey this, and do not read RetryInfo (gRFC A6).
                trailers = (*trailers, ("grpc-retry-pushback-ms", str(RETRY_DELAY_MS)))
            with caller_may_have_gone():
                await context.abort(answer.code, answer.details, trailers)

    def status_of(self, error: Exception) -> Status:
        """Returns the status of an exception. An unexpected one is logged, and only its id sent."""
        return self._table(error) or self._status_of(error)

    def _status_of(self, error: Exception) -> Status:
        match error:
            case RefusedError():
                # The same for every mistake, so that an attacker learns nothing.
                what = "the credentials are missing, or not accepted"
                return status(
                    grpc.StatusCode.UNAUTHENTICATED, what, self._reason("UNAUTHENTICATED")
                )
            case ForbiddenError():
                missing = self._reason("SCOPE_MISSING", scope=str(error))
                what = f"the scope {error} is needed"
                return status(grpc.StatusCode.PERMISSION_DENIED, what, missing)
            case KeysUnavailableError():
                log.error("the keys of a token issuer are unavailable")
                return self._unavailable("tokens cannot be verified at the moment", "KEYS")
            case DecodeError():
                what = "the request is not a message of the method's type"
                return status(grpc.StatusCode.INVALID_ARGUMENT, what)
            case TooLargeError():
                what = f"the request is larger than {MAX_UNARY_BYTES >> 10} KiB"
                return status(grpc.StatusCode.RESOURCE_EXHAUSTED, what)
            case OverloadedError():
                what = f"{error}; try again later"
                overloaded = self._reason("OVERLOADED", limit=error.limit)
                return status(grpc.StatusCode.RESOURCE_EXHAUSTED, what, overloaded, retry())
            case DrainingError():
                what = "the server is shutting down; retry on another one"
                return self._unavailable(what, "DRAINING")
            case TimeoutError():
                return status(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
            case OperationalError() | PoolTimeoutError():
                log.error("the database cannot be used: %s", str(error).splitlines()[0])
                what = "the database cannot be used at the moment"
                return self._unavailable(what, "DATABASE")
            case _:
                error_id = uuid.uuid4().hex
                log.error("unexpected error %s", error_id, exc_info=error)
                internal = self._reason("INTERNAL", error_id=error_id)
                return status(grpc.StatusCode.INTERNAL, f"internal error {error_id}", internal)

    def _unavailable(self, message: str, why: str) -> Status:
        return status(grpc.StatusCode.UNAVAILABLE, message, self._reason(why), retry())

    def _reason(self, why: str, **metadata: str) -> ErrorInfo:
        return reason(self._domain, why, **metadata)
