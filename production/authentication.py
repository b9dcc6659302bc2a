"""Who calls: credentials become a principal before anything of a request is read.

A caller may show a bearer token, a signature, or both: then all must be good, the first names the
principal, and what all of them grant is granted. Who shows neither is known by the client
certificate, if the server asks for one.
"""

import asyncio
import contextvars
import hmac
import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any

import grpc
import structlog

from production import authorization, signatures
from production.authorization import DEVELOPMENT, PUBLIC, ROLES, SCOPES, Principal, principal
from production.database import Database
from production.errors import OverloadedError
from production.signatures import SIGNATURE, Keys, Verified
from production.tls import peer_of
from production.tokens import LEEWAY_S, RefusedError, Verifier

Context = grpc.aio.ServicerContext[Any, Any]
Scheme = Callable[[str, Context], Awaitable[Principal | None]]
"""Gives the principal of a call to a method, None when no such credentials are shown, and raises
RefusedError when they are not good."""

unused: ContextVar[Verified | None] = ContextVar("unused", default=None)
"""The signature of this call, whose nonce is yet to be used."""
MAX_ASKING = 500
"""Callers at a time who wait to be known, while the keys of an issuer are fetched."""
TOKEN = "authorization"  # noqa: S105 - the name of the metadata.


class Authentication:
    """The layer that lets in who is known and allowed, for as long as the credentials are good."""

    def __init__(self, schemes: Sequence[Scheme], otherwise: Scheme, log_secret: str = "") -> None:
        """otherwise is asked when none of the schemes knows the caller."""
        self._log_secret = log_secret or secrets.token_hex()
        self._schemes = schemes
        self._otherwise = otherwise
        self._asking = 0

    @asynccontextmanager
    async def __call__(self, method: str, context: Context) -> AsyncIterator[None]:
        if SCOPES.get(method) == PUBLIC:
            yield
            return
        if self._asking >= MAX_ASKING:
            raise OverloadedError
        self._asking += 1
        try:
            caller = await self._identify(method, context)
        finally:
            self._asking -= 1
        structlog.contextvars.bind_contextvars(caller=pseudonym(caller.name, self._log_secret))
        authorization.check(caller, method)
        token = principal.set(caller)
        left = None if caller.expires == math.inf else caller.expires - time.time()
        try:
            async with asyncio.timeout(left) as lifetime:
                yield
        except TimeoutError:
            if lifetime.expired():
                raise RefusedError("expired meanwhile") from None
            raise
        finally:
            principal.reset(token)

    async def _identify(self, method: str, context: Context) -> Principal:
        shown = [await scheme(method, context) for scheme in self._schemes]
        callers = [caller for caller in shown if caller]
        if not callers:
            caller = await self._otherwise(method, context)
            if not caller:
                raise RefusedError
            return caller
        return Principal(
            callers[0].name,
            frozenset.intersection(*(caller.scopes for caller in callers)),
            min(caller.expires for caller in callers),
        )


@lru_cache(maxsize=10_000)
def pseudonym(name: str, secret: str) -> str:
    """What stands for a caller in the log: the same for each call, and nobody can guess a name."""
    return hmac.digest(secret.encode(), name.encode(), "sha256").hex()[:12]


def single(context: Context, key: str) -> str | None:
    """The value of metadata that may be there once. Raises RefusedError when it is there twice."""
    values = [value for name, value in context.invocation_metadata() or () if name == key]
    if len(values) > 1:
        raise RefusedError(f"{key}: more than one")
    return str(values[0]) if values else None


def bearer(verifier: Verifier) -> Scheme:
    """Callers with a bearer token (RFC 6750)."""

    async def scheme(_method: str, context: Context) -> Principal | None:
        value = single(context, TOKEN)
        if value is None:
            return None
        kind, _, token = value.partition(" ")
        if kind.lower() != "bearer":
            raise RefusedError("token: not a bearer's")
        verified = await verifier.verify(token)
        name = json.dumps(["token", verified.issuer, verified.subject])
        return Principal(name, verified.scopes, verified.expires + LEEWAY_S)

    return scheme


class Nonces:
    """The layer that uses up the nonce of a signed call: inside of admission and deadline, for it
    writes to the database."""

    def __init__(self, database: Database, threads: Executor) -> None:
        self._database = database
        self._threads = threads

    @asynccontextmanager
    async def __call__(self, _method: str, _context: Context) -> AsyncIterator[None]:
        if verified := unused.get():
            use = partial(signatures.use_nonce, self._database, verified, time.time())
            run = partial(contextvars.copy_context().run, use)
            await asyncio.get_running_loop().run_in_executor(self._threads, run)
        yield


def signed(keys: Keys, audience: str) -> Scheme:
    """Callers whose key has signed the call; the layer `Nonces` must follow."""

    async def scheme(method: str, context: Context) -> Principal | None:
        value = single(context, SIGNATURE)
        if value is None:
            return None
        verified = signatures.verify(value, audience + method, keys, time.time())
        unused.set(verified)
        name = json.dumps(["key", verified.api_key.principal])
        return Principal(name, verified.api_key.scopes)

    return scheme


async def certificate(_method: str, context: Context) -> Principal | None:
    """Callers whose client certificate names a role with rights, until it expires.

    A role without any is a gateway's: who calls through it and shows nothing is unknown.
    """
    peer = peer_of(context.auth_context())
    if not peer or not ROLES.get(peer.role):
        return None
    return Principal(json.dumps(["role", peer.role]), ROLES[peer.role], peer.expires)


async def development(_method: str, _context: Context) -> Principal | None:
    """Everybody."""
    return DEVELOPMENT


async def nobody(_method: str, _context: Context) -> Principal | None:
    """Who is known by nothing else is not let in."""
    return None
