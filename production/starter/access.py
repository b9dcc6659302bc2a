"""Grants access, by two tables. Whatever is in neither is denied."""

from production.serving.security.authorization import PUBLIC, Access

READ, WRITE = "parcels.read", "parcels.write"

SCOPES = {
    "/production.starter.v1.ParcelService/CreateParcel": WRITE,
    "/production.starter.v1.ParcelService/GetParcel": READ,
    "/production.starter.v1.ParcelService/ListParcels": READ,
    "/production.starter.v1.ParcelService/UpdateParcel": WRITE,
    "/production.starter.v1.ParcelService/DeleteParcel": WRITE,
    "/production.starter.v1.ParcelService/WatchParcels": READ,
    "/grpc.health.v1.Health/Check": PUBLIC,
    "/grpc.health.v1.Health/Watch": PUBLIC,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": READ,
}
"""The scope that a caller of a method needs."""

ROLES = {"operator": frozenset({READ, WRITE}), "auditor": frozenset({READ})}
"""The scopes that a client certificate of a role grants."""

ACCESS = Access(SCOPES, ROLES)

WATCHES = {"/production.starter.v1.ParcelService/WatchParcels", "/grpc.health.v1.Health/Watch"}
"""Calls that last until the caller leaves or the server stops."""

TRUST_DOMAIN = "parcels.example.com"
"""Whose roles client certificates name, unless a setting names another one."""

SIGNATURE = "x-parcels-signature"
"""The metadata that carries the signature of a call."""
