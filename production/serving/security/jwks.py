"""An issuer's public keys, fetched from its JWKS address (RFC 7517) and kept up to date.

The address is known, or found by OpenID Connect discovery, whose document is fetched along with the
keys. Whatever tokens arrive, an address gets at most one request per `COOLDOWN_S`, and its answer's
time and size are bounded. Certificates are checked against the system's authorities.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jwt

from production.serving.observability import metrics
from production.serving.overload import OverloadedError
from production.serving.security.documents import (
    DiscoveryError,
    fetch,
    keys_address,
    parse_json,
)

EARLY_S = 240
"""Seconds after which keys are fetched again, in the background."""
REFRESH_S = 300
"""Seconds after which calls wait for the fetch. While its issuer answers, no removed key is trusted
for longer."""
KEPT_S = 3_600
"""Seconds after which keys are no longer trusted, even if their issuer does not answer."""
COOLDOWN_S = 10
"""The longest that a new key may stay unknown. Most issuers publish a key before they use it."""
TIMEOUT_S = 5
MAX_WAITING = 500
"""Callers at a time that wait for the keys of one issuer. Who they are is not known yet."""
MAX_KEYS = 100
MAX_RSA_BITS = 8_192
"""Verifying with larger keys is slow. PyJWT checks for keys that are too small."""

KEY_TYPES = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "ES384": "EC", "EdDSA": "OKP"}
"""The supported algorithms, all asymmetric: a server that can verify a token cannot make one."""
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
"""Members of a private key. If it is published, anybody can sign with it."""

Keys = Mapping[tuple[str, str], jwt.PyJWK]
"""By key id and algorithm."""

log = logging.getLogger(__name__)


class KeysUnavailableError(Exception):
    """The issuer's keys are unavailable, and the last ones, if any, are too old."""


class UnusableKeyError(ValueError):
    """A key must not verify signatures; the message quotes nothing but its id."""


class KeySource:
    """The keys at one address, for one event loop and any number of its tasks."""

    def __init__(
        self,
        url: str,
        algorithms: Collection[str],
        issuer: str = "",
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """algorithms are keys of `KEY_TYPES`; monotonic returns seconds.

        If an issuer is named, url is the address of its discovery document.
        """
        self._url = url
        self._issuer = issuer
        self._algorithms = algorithms
        self._monotonic = monotonic
        self._document: object = None
        self._keys: Keys = {}
        self._fetched = self._tried = -float("inf")
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0
        self._fetched_ok = metrics.KEY_FETCHES.labels(url, "ok")
        self._fetch_failed = metrics.KEY_FETCHES.labels(url, "failed")

    async def keys(self, wanted: tuple[str, str] | None = None) -> Keys:
        """Returns the keys, fetched again if they are old or lack the wanted one.

        Returns the same object until the keys change. Raises KeysUnavailableError, and
        OverloadedError if too many wait for them.
        """
        age = self._monotonic() - self._fetched
        missing = wanted is not None and wanted not in self._keys
        if missing or age >= EARLY_S:
            fetching = self._fetch_soon()
            # A slow or broken issuer must not delay tokens whose keys we have.
            due = age >= REFRESH_S and not self._failing
            if fetching and (missing or due or age >= KEPT_S):
                await self._wait_for(fetching)
        if self._monotonic() - self._fetched >= KEPT_S:
            raise KeysUnavailableError
        return self._keys

    async def _wait_for(self, fetching: asyncio.Task[None]) -> None:
        if self._waiting >= MAX_WAITING and not fetching.done():
            raise OverloadedError
        self._waiting += 1
        try:
            await asyncio.shield(fetching)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Cancels the current fetch."""
        if self._fetching:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _fetch_soon(self) -> asyncio.Task[None] | None:
        """Returns the current fetch, or a new one unless the last was just now."""
        now = self._monotonic()
        if (self._fetching is None or self._fetching.done()) and now - self._tried >= COOLDOWN_S:
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        started = self._monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                document = await self._get_keys()
            if document != self._document:
                self._keys = read_keys(document, self._algorithms)
                self._document = document
        except Exception as error:  # noqa: BLE001 - whatever they send, we keep the keys we have.
            why = error if isinstance(error, DiscoveryError) else type(error).__name__
            log.warning("no keys from %s: %s", self._url, why)
            self._failing = True
            self._fetch_failed.inc()
        else:
            self._fetched = started
            self._failing = False
            self._fetched_ok.inc()

    async def _get_keys(self) -> object:
        """Raises as fetch and parse_json do, and DiscoveryError."""
        if not self._issuer:
            return parse_json(await fetch(self._url))
        found = keys_address(parse_json(await fetch(self._url)), self._issuer, self._url)
        return parse_json(await fetch(found))


def read_keys(document: object, algorithms: Collection[str]) -> Keys:
    """Returns the keys in a JWKS document that fit one of the algorithms; bad ones are logged.

    Raises ValueError if it is not a JWKS document. Keys that share an id are all left out.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(key, dict) for key in listed):
        raise ValueError("no list of keys")
    if len(listed) > MAX_KEYS:
        raise ValueError("too many keys")
    ids = [key.get("kid") for key in listed]
    keys: dict[tuple[str, str], jwt.PyJWK] = {}
    for key in listed:
        try:
            _check_key(key, ids)
            name = key.get("alg")
            for algorithm in algorithms:
                if name in (None, algorithm) and key.get("kty") == KEY_TYPES[algorithm]:
                    keys[key["kid"], algorithm] = _load_key(key, algorithm)
        except UnusableKeyError as error:
            log.warning("a key is left out: %s", error)
        except (jwt.PyJWTError, ValueError, TypeError) as error:  # Its text quotes the issuer.
            log.warning("a key is left out: %s", type(error).__name__)
    return keys


def _check_key(key: dict[str, Any], ids: list[object]) -> None:
    """Raises UnusableKeyError unless the key may verify signatures. PyJWK checks none of this."""
    kid, operations = key.get("kid"), key.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not kid:
        raise UnusableKeyError("no key id")
    if ids.count(kid) > 1:
        raise UnusableKeyError(f"{kid[:64]!r} is the id of several keys")
    if PRIVATE & key.keys() or key.get("kty") == "oct":
        raise UnusableKeyError(f"{kid[:64]!r} is a private key, and published")
    for_signatures = key.get("use", "sig") == "sig"
    if not (for_signatures and isinstance(operations, list) and "verify" in operations):
        raise UnusableKeyError(f"{kid[:64]!r} is not for signatures")


def _load_key(key: dict[str, Any], algorithm: str) -> jwt.PyJWK:
    """Loads a key for an algorithm. Raises jwt.PyJWTError, ValueError, TypeError."""
    loaded = jwt.PyJWK(key, algorithm)
    prepared = loaded.Algorithm.prepare_key(loaded.key)  # Raises if the curve is wrong.
    weak = loaded.Algorithm.check_key_length(prepared)
    if weak or (algorithm in ("RS256", "PS256") and prepared.key_size > MAX_RSA_BITS):
        raise UnusableKeyError("the size of the RSA key is not accepted")
    return loaded
