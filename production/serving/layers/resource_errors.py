"""Maps what can go wrong with resources to statuses (https://google.aip.dev/193)."""

import grpc
from google.rpc.error_details_pb2 import ResourceInfo
from google.rpc.status_pb2 import Status

from production.serving.layers.statuses import invalid, reason, status
from production.serving.resources import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    PositionExpiredError,
    QuotaError,
)
from production.serving.validation import InvalidError


def status_of(error: Exception, domain: str, resource: str) -> Status | None:
    """Returns the status for an error of a resource, None for any other exception.

    domain is that of the reasons in details; resource is a type, such as library.example.com/Book.
    """
    match error:
        case InvalidError():
            return invalid(error.violations)
        case NotFoundError():
            info = ResourceInfo(resource_type=resource, resource_name=str(error))
            return status(grpc.StatusCode.NOT_FOUND, f"{error} does not exist", info)
        case AlreadyExistsError():
            info = ResourceInfo(resource_type=resource, resource_name=str(error))
            return status(grpc.StatusCode.ALREADY_EXISTS, f"{error} already exists", info)
        case ConflictError():
            mismatch = reason(domain, "ETAG_MISMATCH", etag=error.etag)
            what = f"{error} has changed; read it again"
            return status(grpc.StatusCode.ABORTED, what, mismatch)
        case QuotaError():
            what = f"no more than {error} are kept for one owner; delete some"
            full = reason(domain, "QUOTA_EXCEEDED")
            return status(grpc.StatusCode.RESOURCE_EXHAUSTED, what, full)
        case PositionExpiredError():
            what = "changes after this position are no longer kept; list, then start a new watch"
            return status(grpc.StatusCode.OUT_OF_RANGE, what, reason(domain, "POSITION_EXPIRED"))
        case _:
            return None
