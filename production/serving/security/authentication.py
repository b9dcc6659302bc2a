"""Turns credentials into a principal, before any of a request is read.

If a caller sends both a bearer token and a signature, both must be valid: the token names the
principal and its claims, and only scopes granted by both apply. A caller that sends neither is
identified by its client certificate, if the server requires one. Only tokens have claims.
"""

import asyncio
import contextvars
import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import grpc
import structlog

from production.serving.security import signatures
from production.serving.security.authorization import Access
from production.serving.security.nonces import use_nonce
from production.serving.security.principal import Principal, RefusedError, principal, pseudonym
from production.serving.security.signatures import Keys, Verified
from production.serving.security.tls import peer_of
from production.serving.security.tokens import LEEWAY_S, Verifier
from production.serving.storage.database import Database

Context = grpc.aio.ServicerContext[Any, Any]
Scheme = Callable[[str, Context], Awaitable[Principal | None]]
"""Returns the principal of a call to a method, or None if the call carries no such credentials.
Raises RefusedError if they are not valid."""

pending_signature: ContextVar[Verified | None] = ContextVar("pending_signature", default=None)
"""The signature of this call, whose nonce has not been consumed yet."""
TOKEN = "authorization"  # noqa: S105 - the name of the metadata.


class Authentication:
    """The layer that identifies callers, and admits them to what they may call."""

    def __init__(
        self, access: Access, schemes: Sequence[Scheme], fallback: Scheme, log_secret: str = ""
    ) -> None:
        """fallback is tried if none of the schemes identifies the caller."""
        self._access = access
        self._schemes = schemes
        self._fallback = fallback
        self._log_secret = log_secret or secrets.token_hex()

    @asynccontextmanager
    async def __call__(self, method: str, context: Context) -> AsyncIterator[None]:
        if self._access.is_public(method):
            yield
            return
        caller = await self._identify(method, context)
        structlog.contextvars.bind_contextvars(caller=pseudonym(caller.name, self._log_secret))
        self._access.check(caller, method)
        token = principal.set(caller)
        remaining = None if caller.expires == math.inf else caller.expires - time.time()
        try:
            async with asyncio.timeout(remaining) as lifetime:
                yield
        except TimeoutError:
            if lifetime.expired():
                raise RefusedError("expired meanwhile") from None
            raise
        finally:
            principal.reset(token)

    async def _identify(self, method: str, context: Context) -> Principal:
        identified = [await scheme(method, context) for scheme in self._schemes]
        callers = [caller for caller in identified if caller]
        if not callers:
            caller = await self._fallback(method, context)
            if not caller:
                raise RefusedError
            return caller
        return Principal(
            callers[0].name,
            frozenset.intersection(*(caller.scopes for caller in callers)),
            min(caller.expires for caller in callers),
            callers[0].claims,
        )


def single_metadata_value(context: Context, key: str) -> str | None:
    """Returns the value of a metadata key. Raises RefusedError if there are several."""
    values = [value for name, value in context.invocation_metadata() or () if name == key]
    if len(values) > 1:
        raise RefusedError(f"{key}: more than one")
    return str(values[0]) if values else None


def bearer(verifier: Verifier) -> Scheme:
    """Identifies callers by a bearer token (RFC 6750)."""

    async def scheme(_method: str, context: Context) -> Principal | None:
        value = single_metadata_value(context, TOKEN)
        if value is None:
            return None
        scheme_name, _, token = value.partition(" ")
        if scheme_name.lower() != "bearer":
            raise RefusedError("token: not a bearer's")
        verified = await verifier.verify(token)
        name = json.dumps(["token", verified.issuer, verified.subject])
        return Principal(name, verified.scopes, verified.expires + LEEWAY_S, verified.claims)

    return scheme


class Nonces:
    """The layer that consumes the nonce of a signed call.

    It runs inside admission and deadline because it writes to the database.
    """

    def __init__(self, database: Database, threads: Executor) -> None:
        self._database = database
        self._threads = threads

    @asynccontextmanager
    async def __call__(self, _method: str, _context: Context) -> AsyncIterator[None]:
        if verified := pending_signature.get():
            once = verified.key, verified.nonce, verified.signed
            use = partial(use_nonce, self._database, *once, time.time())
            run = partial(contextvars.copy_context().run, use)
            await asyncio.get_running_loop().run_in_executor(self._threads, run)
        yield


def signed(keys: Keys, audience: str, header: str) -> Scheme:
    """Identifies callers by the API key that signed the call; the layer `Nonces` must follow.

    header is the metadata that carries the signature.
    """

    async def scheme(method: str, context: Context) -> Principal | None:
        value = single_metadata_value(context, header)
        if value is None:
            return None
        verified = signatures.verify(value, audience + method, keys, time.time())
        pending_signature.set(verified)
        name = json.dumps(["key", verified.api_key.principal])
        return Principal(name, verified.api_key.scopes)

    return scheme


def certificate(roles: Mapping[str, frozenset[str]], prefix: str) -> Scheme:
    """Identifies callers by the role that their client certificate names, until it expires.

    prefix begins the URI of every role. A role without scopes is a gateway's: it does not identify
    the callers behind the gateway, which need credentials of their own.
    """

    async def scheme(_method: str, context: Context) -> Principal | None:
        peer = peer_of(context.auth_context(), prefix)
        if not peer or not roles.get(peer.role):
            return None
        return Principal(json.dumps(["role", peer.role]), roles[peer.role], peer.expires)

    return scheme


def everybody(caller: Principal) -> Scheme:
    """Accepts every caller as one principal: for development."""

    async def scheme(_method: str, _context: Context) -> Principal | None:
        return caller

    return scheme


async def nobody(_method: str, _context: Context) -> Principal | None:
    """Rejects callers that no other scheme has identified."""
    return None
