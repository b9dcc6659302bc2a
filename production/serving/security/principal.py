"""The authenticated caller of a call."""

import hmac
import math
from collections.abc import Mapping
from contextvars import ContextVar
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

NO_CLAIMS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Principal(NamedTuple):
    """A caller. Data is owned by the name, which is unique over all ways to authenticate."""

    name: str
    scopes: frozenset[str]
    expires: float = math.inf
    """The end of the credentials, in Unix seconds."""
    claims: Mapping[str, tuple[str, ...]] = NO_CLAIMS
    """What the caller's token says of it, such as its groups, if the table of issuers names it."""


principal: ContextVar[Principal] = ContextVar("principal")
"""The caller: set around each call that has been admitted."""


@lru_cache(maxsize=10_000)
def pseudonym(name: str, secret: str) -> str:
    """Returns the name of a caller in the log, which nobody can guess without the secret."""
    return hmac.digest(secret.encode(), name.encode(), "sha256").hex()[:12]


class RefusedError(Exception):
    """The credentials are not accepted. The reason is for the log only: attackers could use it."""

    def __init__(self, reason: str = "none shown") -> None:
        """reason must not quote the credentials."""
        super().__init__("the credentials are not accepted")
        self.reason = reason
