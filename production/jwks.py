"""An issuer's public keys, fetched from its JWKS address (RFC 7517) and kept up to date.

Whatever arrives, an address is asked once per `COOLDOWN_S` at most, by one request at a time, whose
time and size are bounded. Certificates are checked against the system's authorities.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import aiohttp
import jwt

EARLY_S = 240
"""Seconds after which keys are fetched again, while calls go on with those known."""
REFRESH_S = 300
"""A removed key is trusted for so long at most, while its issuer answers."""
KEPT_S = 3_600
"""A removed key is trusted for so long at most, while its issuer does not answer."""
COOLDOWN_S = 10
"""A key may be unknown for so long, unless its issuer publishes it before using it (most do)."""
TIMEOUT_S = 5
MAX_BYTES = 65_536
MAX_KEYS = 100
MAX_RSA_BITS = 8_192
"""Larger keys are slow to verify with. PyJWT knows which are too small."""
PLAIN = {"Accept-Encoding": "identity"}

KEY_TYPES = {"RS256": "RSA", "PS256": "RSA", "ES256": "EC", "ES384": "EC", "EdDSA": "OKP"}
"""The algorithms that can be had, all asymmetric: who can verify a token cannot make one."""
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
"""Members of a key that nobody may publish: anybody could sign with it."""

Keys = Mapping[tuple[str, str], jwt.PyJWK]
"""By key id and algorithm."""

log = logging.getLogger(__name__)


class KeysUnavailableError(Exception):
    """The issuer's keys cannot be had now, and those known, if any, are too old."""


class KeySource:
    """The keys at one address. For one event loop; any number of tasks may ask at once."""

    def __init__(
        self,
        url: str,
        algorithms: Collection[str],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """algorithms are of `KEY_TYPES`; monotonic gives seconds."""
        self._url = url
        self._algorithms = algorithms
        self._monotonic = monotonic
        self._document: object = None
        self._keys: Keys = {}
        self._fetched = self._tried = -float("inf")
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    async def keys(self, wanted: tuple[str, str] | None = None) -> Keys:
        """The keys, fetched anew when they are old or lack the one wanted.

        Gives the same object until the keys change. Raises KeysUnavailableError.
        """
        age = self._monotonic() - self._fetched
        missing = wanted is not None and wanted not in self._keys
        if missing or age >= EARLY_S:
            fetching = self._fetch_soon()
            # An issuer that is slow or down shall not hold up tokens whose keys we know.
            due = age >= REFRESH_S and not self._failing
            if fetching and (missing or due or age >= KEPT_S):
                await asyncio.shield(fetching)
        if self._monotonic() - self._fetched >= KEPT_S:
            raise KeysUnavailableError
        return self._keys

    async def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._fetching:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _fetch_soon(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one unless the last has just been."""
        now = self._monotonic()
        if (self._fetching is None or self._fetching.done()) and now - self._tried >= COOLDOWN_S:
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        started = self._monotonic()
        try:
            document = parse_json(await _get(self._url))
            if document != self._document:
                self._keys = read_keys(document, self._algorithms)
                self._document = document
        except Exception as error:  # noqa: BLE001 - whatever they send, the keys we have stay.
            log.warning("no keys from %s: %s", self._url, type(error).__name__)
            self._failing = True
        else:
            self._fetched = started
            self._failing = False


async def _get(url: str) -> bytes:
    """Raises aiohttp.ClientError, TimeoutError, OSError, ValueError."""
    body = b""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
        # No redirect: the table says where the keys are. Not compressed: a little may become much.
        session.get(url, allow_redirects=False, headers=PLAIN, auto_decompress=False) as response,
    ):
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > MAX_BYTES:
                raise ValueError("too large")
    return body


def read_keys(document: object, algorithms: Collection[str]) -> Keys:
    """The keys in a JWKS document that can verify one of the algorithms; others are logged.

    Raises ValueError when it is no such document. Keys that share an id are all left out.
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
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.warning("a key is left out: %s", error)
    return keys


def _check_key(key: dict[str, Any], ids: list[object]) -> None:
    """Raises ValueError."""
    kid, operations = key.get("kid"), key.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not kid:
        raise ValueError("no key id")
    if ids.count(kid) > 1:
        raise ValueError(f"{kid[:64]!r} is not the only one of its name")
    if PRIVATE & key.keys() or key.get("kty") == "oct":
        raise ValueError(f"{kid[:64]!r} is secret, and published")
    for_signatures = key.get("use", "sig") == "sig"
    if not (for_signatures and isinstance(operations, list) and "verify" in operations):
        raise ValueError(f"{kid[:64]!r} is not for signatures")


def _load_key(key: dict[str, Any], algorithm: str) -> jwt.PyJWK:
    """Raises jwt.PyJWTError, ValueError, TypeError."""
    loaded = jwt.PyJWK(key, algorithm)
    prepared = loaded.Algorithm.prepare_key(loaded.key)  # Raises when the curve is another's.
    weak = loaded.Algorithm.check_key_length(prepared)
    if weak or (algorithm in ("RS256", "PS256") and prepared.key_size > MAX_RSA_BITS):
        raise ValueError("an RSA key of a size that is not accepted")
    return loaded


def parse_json(data: bytes) -> object:
    """Strict: a name that stands twice is an error, because parsers differ in which they take.

    Raises ValueError, RecursionError.
    """
    return json.loads(data.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
