"""Who may do what, in two tables. What is in neither is denied."""

import math
from contextvars import ContextVar
from typing import NamedTuple

READ, WRITE = "contacts.read", "contacts.write"
PUBLIC = ""
"""The scope of methods that anybody may call, without credentials."""

SCOPES = {
    "/production.v1.ContactService/CreateContact": WRITE,
    "/production.v1.ContactService/GetContact": READ,
    "/production.v1.ContactService/ListContacts": READ,
    "/production.v1.ContactService/UpdateContact": WRITE,
    "/production.v1.ContactService/DeleteContact": WRITE,
    "/production.v1.ContactService/ImportContacts": WRITE,
    "/production.v1.ContactService/ExportContacts": READ,
    "/production.v1.ContactService/WatchContacts": READ,
    "/grpc.health.v1.Health/Check": PUBLIC,
    "/grpc.health.v1.Health/Watch": PUBLIC,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": READ,
}
"""What a caller of a method must have been granted."""

ROLES = {
    "operator": frozenset({READ, WRITE}),
    "auditor": frozenset({READ}),
    "gateway": frozenset[str](),  # Passes on its callers' credentials, and has no rights itself.
}
"""What a client certificate of a role is granted."""


class ForbiddenError(Exception):
    """The caller is known, and may not do this; the message is the scope that is missing."""


class Principal(NamedTuple):
    """Who calls. The name owns contacts; it is unique over all ways to authenticate."""

    name: str
    scopes: frozenset[str]
    expires: float = math.inf
    """When the credentials end, in Unix seconds."""


DEVELOPMENT = Principal("development", frozenset({READ, WRITE}))
"""Everybody, on a server without authentication."""

principal: ContextVar[Principal] = ContextVar("principal")
"""Who calls: set around each call that has been let in."""


def check(caller: Principal, method: str) -> None:
    """Raises ForbiddenError unless the caller may call the method."""
    scope = SCOPES.get(method)
    if scope is None or scope not in caller.scopes:
        raise ForbiddenError(scope or method)
