"""Maps the exceptions of contacts to statuses."""

from google.rpc.status_pb2 import Status

from production.serving.layers import resource_errors

DOMAIN = "contacts.example.com"


def status_of(error: Exception) -> Status | None:
    """Returns the status for an exception of contacts, None for any other exception."""
    return resource_errors.status_of(error, DOMAIN, f"{DOMAIN}/Contact")
