"""Grants access, by two tables. Whatever is in neither is denied."""

from production.serving.security.authorization import PUBLIC, Access

READ, WRITE = "contacts.read", "contacts.write"

SCOPES = {
    "/production.v1.ContactService/CreateContact": WRITE,
    "/production.v1.ContactService/GetContact": READ,
    "/production.v1.ContactService/ListContacts": READ,
    "/production.v1.ContactService/UpdateContact": WRITE,
    "/production.v1.ContactService/DeleteContact": WRITE,
    "/production.v1.ContactService/ImportContacts": WRITE,
    "/production.v1.ContactService/ExportContacts": READ,
    "/production.v1.ContactService/WatchContacts": READ,
    "/production.v2.ContactService/CreateContact": WRITE,
    "/production.v2.ContactService/GetContact": READ,
    "/production.v2.ContactService/ListContacts": READ,
    "/production.v2.ContactService/UpdateContact": WRITE,
    "/production.v2.ContactService/DeleteContact": WRITE,
    "/grpc.health.v1.Health/Check": PUBLIC,
    "/grpc.health.v1.Health/Watch": PUBLIC,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": READ,
}
"""The scope that a caller of a method needs."""

ROLES = {
    "operator": frozenset({READ, WRITE}),
    "auditor": frozenset({READ}),
    "gateway": frozenset[str](),  # Forwards its callers' credentials, and has no rights itself.
}
"""The scopes that a client certificate of a role grants."""

ACCESS = Access(SCOPES, ROLES)

WATCHES = {"/production.v1.ContactService/WatchContacts", "/grpc.health.v1.Health/Watch"}
"""Calls that last until the caller leaves or the server stops. Their names begin with Watch."""

UPLOADS = {"/production.v1.ContactService/ImportContacts"}
"""Calls whose requests are kept in files until they are complete."""

TRUST_DOMAIN = "contacts.example.com"
"""Whose roles the certificates of `make certs` name."""


SIGNATURE = "x-contacts-signature"
"""The metadata that carries the signature of a call."""

DEVELOPMENT = ACCESS.developer
"""The principal of every caller, on a server without authentication."""
