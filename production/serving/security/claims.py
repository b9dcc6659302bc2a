"""Reads the claims of a verified token, as its issuer's entry in the table says. Knows no gRPC."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from production.serving.security.issuers import Issuer
from production.serving.security.principal import NO_CLAIMS, RefusedError

ABSENT = object()
"""What `find` returns for a claim that a token does not have."""
SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""A scope (RFC 6749, 3.3)."""
MAX_TEXT = 4_096
"""Characters in all claims that a service gets, and one for each text."""


def find(claims: object, name: str) -> object:
    """Returns the claim of that name, or at that path (RFC 6901), or ABSENT."""
    path = [name]
    if name.startswith("/"):
        path = [part.replace("~1", "/").replace("~0", "~") for part in name[1:].split("/")]
    for part in path:
        claims = claims.get(part, ABSENT) if isinstance(claims, dict) else ABSENT
    return claims


def scopes_of(members: object, issuer: Issuer) -> frozenset[str]:
    """Returns what a token grants. Of several claims the first counts: none adds to another.

    Raises RefusedError.
    """
    names = issuer.scope_claims or ("scope",)
    name = next((name for name in names if find(members, name) is not ABSENT), None)
    if name is None:
        if issuer.granted_without_claim is None:
            raise RefusedError(f"token: no {' or '.join(names)}")
        return issuer.granted_without_claim
    if not issuer.scope_claims and not isinstance(find(members, name), str):
        raise RefusedError("token: scope is not a text")  # RFC 9068, 2.2.3.
    values = frozenset(_scope_values(members, name))
    if issuer.roles is not None:
        granted = (issuer.roles[value] for value in values if value in issuer.roles)
        values = frozenset[str]().union(*granted)
    return values if issuer.scopes is None else values & issuer.scopes


def _scope_values(members: object, name: str) -> tuple[str, ...]:
    """Returns the scopes or roles in a claim: a text of some with a space between, or a list."""
    value = find(members, name)
    if not isinstance(value, str):
        return texts(members, name)
    values = tuple(value.split(" ")) if value else ()
    if not all(map(SCOPE.fullmatch, values)):
        raise RefusedError(f"token: {name} is not a list of scopes")
    return values


def claims_for_service(members: object, issuer: Issuer) -> Mapping[str, tuple[str, ...]]:
    """Returns the claims that the table names, without those that are absent. Raises RefusedError.

    All are lists, because issuers send one group as a text and two as a list.
    """
    if not issuer.claims:
        return NO_CLAIMS
    claims = {known: texts(members, name) for known, name in issuer.claims.items()}
    found = [text for values in claims.values() for text in values]
    if sum(len(text) + 1 for text in found) > MAX_TEXT or not all(map(str.isprintable, found)):
        raise RefusedError("token: claims for the service are too long, or not printable")
    return MappingProxyType({known: values for known, values in claims.items() if values})


def texts(members: object, name: str) -> tuple[str, ...]:
    """Returns a claim that is a text or a list of texts, or nothing if it is absent.

    Raises RefusedError if it is anything else.
    """
    value = find(members, name)
    if value is ABSENT:
        return ()
    found = tuple(value) if isinstance(value, list) else (value,)
    if not all(isinstance(text, str) for text in found):
        raise RefusedError(f"token: {name} is neither a text nor a list of texts")
    return found
