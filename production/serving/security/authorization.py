"""Checks that a caller may call a method, from two tables of the service."""

from collections.abc import Mapping
from typing import NamedTuple

from production.serving.security.principal import Principal

PUBLIC = ""
"""The scope of methods that need no credentials."""


class ForbiddenError(Exception):
    """The caller may not call this method; the message is the missing scope."""


class Access(NamedTuple):
    """The scopes that methods need and roles have. A method that is not listed is denied."""

    scopes: Mapping[str, str]
    """The scope that a caller of each method needs."""
    roles: Mapping[str, frozenset[str]]
    """The scopes that a client certificate of each role grants."""

    @property
    def known_scopes(self) -> frozenset[str]:
        """All scopes that a method needs: what a credential can grant."""
        return frozenset(self.scopes.values()) - {PUBLIC}

    @property
    def developer(self) -> Principal:
        """The principal of every caller, on a server without authentication."""
        return Principal("development", self.known_scopes)

    def is_public(self, method: str) -> bool:
        """Tells whether the method needs no credentials."""
        return self.scopes.get(method) == PUBLIC

    def check(self, caller: Principal, method: str) -> None:
        """Raises ForbiddenError unless the caller may call the method."""
        scope = self.scopes.get(method)
        if scope is None or scope not in caller.scopes:
            raise ForbiddenError(scope or method)
