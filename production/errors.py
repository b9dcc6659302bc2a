"""The one place that says what a caller is told when something goes wrong.

Every error carries rich details (google.rpc.Status, https://google.aip.dev/193) and stays below
4 kB: larger trailers are refused by some clients and proxies at random.
"""

import logging
import uuid

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo, RetryInfo
from google.rpc.status_pb2 import Status
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from production.authorization import ForbiddenError
from production.changes import PositionExpiredError
from production.contacts import AlreadyExistsError, ConflictError, NotFoundError
from production.rules import InvalidError
from production.tokens import KeysUnavailableError, RefusedError

DOMAIN = "contacts.example.com"
RESOURCE = f"{DOMAIN}/Contact"
MAX_BYTES = 3_500
RETRY_DELAY_MS = 500

log = logging.getLogger(__name__)


class OverloadedError(Exception):
    """The server has as much to do as it can bear."""


class DrainingError(Exception):
    """The server is going to stop."""


class DecodeError(Exception):
    """The bytes of a request are no message of the method's type."""


def status_of(error: Exception) -> Status:
    """What the caller is told. What nobody expected is logged, and told by its id alone."""
    match error:
        case InvalidError():
            return _invalid(error)
        case RefusedError():
            # The same for every mistake: a forger learns nothing.
            what = "the credentials are missing, or not accepted"
            return _status(grpc.StatusCode.UNAUTHENTICATED, what, _reason("UNAUTHENTICATED"))
        case ForbiddenError():
            reason = _reason("SCOPE_MISSING", scope=str(error))
            what = f"the scope {error} is needed"
            return _status(grpc.StatusCode.PERMISSION_DENIED, what, reason)
        case KeysUnavailableError():
            log.error("the keys of an issuer of tokens cannot be had")
            what = "tokens cannot be verified at the moment"
            return _status(grpc.StatusCode.UNAVAILABLE, what, _reason("KEYS"), _retry())
        case DecodeError():
            what = "the request is no message of the method's type"
            return _status(grpc.StatusCode.INVALID_ARGUMENT, what)
        case NotFoundError():
            info = ResourceInfo(resource_type=RESOURCE, resource_name=str(error))
            return _status(grpc.StatusCode.NOT_FOUND, f"{error} does not exist", info)
        case AlreadyExistsError():
            info = ResourceInfo(resource_type=RESOURCE, resource_name=str(error))
            return _status(grpc.StatusCode.ALREADY_EXISTS, f"{error} exists already", info)
        case ConflictError():
            reason = _reason("ETAG_MISMATCH", etag=error.etag)
            what = f"{error} has changed; read it again"
            return _status(grpc.StatusCode.ABORTED, what, reason)
        case PositionExpiredError():
            what = "changes after this position are no longer kept; list, then watch anew"
            return _status(grpc.StatusCode.OUT_OF_RANGE, what, _reason("POSITION_EXPIRED"))
        case OverloadedError():
            what = "the server has too much to do; try again later"
            reason = _reason("OVERLOADED")
            return _status(grpc.StatusCode.RESOURCE_EXHAUSTED, what, reason, _retry())
        case DrainingError():
            what = "the server is about to stop; go on with another"
            return _status(grpc.StatusCode.UNAVAILABLE, what, _reason("DRAINING"), _retry())
        case TimeoutError():
            return _status(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        case OperationalError() | PoolTimeoutError():
            log.error("the database cannot be used: %s", str(error).splitlines()[0])
            what = "the database cannot be used at the moment"
            return _status(grpc.StatusCode.UNAVAILABLE, what, _reason("DATABASE"), _retry())
        case _:
            error_id = uuid.uuid4().hex
            log.error("unexpected error %s", error_id, exc_info=error)
            reason = _reason("INTERNAL", error_id=error_id)
            return _status(grpc.StatusCode.INTERNAL, f"internal error {error_id}", reason)


def _invalid(error: InvalidError) -> Status:
    """As many of the violations as have room."""
    shown = BadRequest()
    for field, description in error.violations:
        shown.field_violations.add(field=field, description=description)
        if shown.ByteSize() > MAX_BYTES:
            del shown.field_violations[-1]
            break
    first = error.violations[0]
    more = len(error.violations) - 1
    what = f"{first.field} {first.description}" + (f", and {more} more" if more else "")
    return _status(grpc.StatusCode.INVALID_ARGUMENT, what[:300], shown)


def _reason(reason: str, **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def _retry() -> RetryInfo:
    return RetryInfo(retry_delay=Duration(nanos=RETRY_DELAY_MS * 1_000_000))


def _status(code: grpc.StatusCode, message: str, *details: Message) -> Status:
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status
