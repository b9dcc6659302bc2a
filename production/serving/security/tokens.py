"""Verifies bearer tokens: JSON Web Tokens, with their issuers' keys. Knows no gRPC.

A token is refused unless all of it meets its issuer's entry in the table. The key comes from the
address in the table, never from the token.
"""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jwt
from pydantic import BaseModel, ConfigDict, Field

from production.serving.security.claims import claims_for_service, find, scopes_of, texts
from production.serving.security.documents import parse_json
from production.serving.security.issuers import Issuer, check_distinct
from production.serving.security.jwks import Keys, KeySource
from production.serving.security.principal import NO_CLAIMS, RefusedError

LEEWAY_S = 30
"""The leeway between an issuer's clock and ours."""
MAX_TOKEN = 8_192
"""Characters. Longer tokens hardly fit into metadata."""
MAX_REMEMBERED = 10_000
"""The most verified tokens that are kept; the oldest goes first."""
THREE_PARTS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""Stricter than PyJWT, which takes padding: a token is remembered by its only spelling."""
JWS = jwt.PyJWS()
FORBIDDEN = {"jwk", "jku", "x5c", "x5u", "crit", "zip", "b64"}
"""Members of a header that bring a key of the sender's, or change how a token is read."""


class Token(NamedTuple):
    """The content of a verified token."""

    issuer: str
    subject: str
    """1 to 255 printable characters, unique only together with the issuer."""
    scopes: frozenset[str]
    expires: float
    """In Unix seconds. The token is accepted for `LEEWAY_S` longer."""
    claims: Mapping[str, tuple[str, ...]] = NO_CLAIMS
    """Those that the table names, by the names that the service knows."""


class _Header(BaseModel):
    """The members that are read. Others are ignored (RFC 7515, 4), or `FORBIDDEN`."""

    model_config = ConfigDict(strict=True)

    alg: str
    kid: str
    typ: str = ""


class _Claims(BaseModel):
    """The claims of all tokens, strictly: times are integers, not "1", 1.0 or true."""

    model_config = ConfigDict(strict=True)

    iss: str
    sub: str = Field(min_length=1, max_length=255)
    exp: int
    iat: int
    nbf: int = 0


class Verifier:
    """Verifies tokens, for one event loop and any number of its tasks."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock returns Unix seconds. Raises ValueError if two issuers have the same name."""
        self._clock = clock
        self._monotonic = monotonic
        self._issuers: dict[str, tuple[Issuer, KeySource]] = {}
        for issuer in check_distinct(tuple(issuers)):
            self._issuers[issuer.issuer] = issuer, self._source(issuer)
        # By digest, so that a dump of this memory contains no usable tokens.
        self._remembered: dict[bytes, tuple[Token, KeySource, Keys]] = {}

    async def verify(self, token: str) -> Token:
        """Verifies a token. Raises RefusedError, KeysUnavailableError."""
        if len(token) > MAX_TOKEN or not THREE_PARTS.fullmatch(token):
            raise RefusedError("token: form")
        digest = hashlib.sha256(token.encode()).digest()
        return await self._recall(digest) or await self._verify(token, digest)

    async def replace(self, issuers: Iterable[Issuer]) -> None:
        """Accepts tokens of these issuers from now on. The keys of those that stay are kept."""
        old, self._issuers = self._issuers, {}
        for issuer in issuers:
            if issuer.issuer in old and old[issuer.issuer][0] == issuer:
                self._issuers[issuer.issuer] = old.pop(issuer.issuer)
            else:
                self._issuers[issuer.issuer] = issuer, self._source(issuer)
        self._remembered.clear()
        for _, source in old.values():
            await source.close()

    def _source(self, issuer: Issuer) -> KeySource:
        if issuer.jwks:
            return KeySource(issuer.jwks, issuer.algorithms, monotonic=self._monotonic)
        return KeySource(
            issuer.discovery_url, issuer.algorithms, issuer.issuer, monotonic=self._monotonic
        )

    async def close(self) -> None:
        """Cancels the current fetches."""
        for _, source in self._issuers.values():
            await source.close()

    async def _recall(self, digest: bytes) -> Token | None:
        if digest not in self._remembered:
            return None
        token, source, keys = self._remembered[digest]
        # If any key of the issuer has changed, its tokens are verified again.
        if await source.keys() is keys and self._clock() < token.expires + LEEWAY_S:
            return token
        self._remembered.pop(digest, None)
        return None

    async def _verify(self, token: str, digest: bytes) -> Token:
        header, claims, members = _read(token)
        if claims.iss not in self._issuers:
            raise RefusedError("token: issuer")
        issuer, source = self._issuers[claims.iss]
        _check_header(header, issuer)
        name = header.kid, header.alg
        keys = await source.keys(wanted=name)
        if self._issuers.get(claims.iss) != (issuer, source):
            raise RefusedError("token: issuer")  # Replaced meanwhile.
        if name not in keys:
            raise RefusedError("token: key")
        try:
            JWS.decode(token, keys[name])
        except jwt.PyJWTError:
            raise RefusedError("token: signature") from None
        verified = _check_claims(claims, members, issuer, self._clock())
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = verified, source, keys
        return verified


def _read(token: str) -> tuple[_Header, _Claims, object]:
    """Decodes a token, without verifying it: the header, the claims of all tokens, all claims."""
    try:
        header, claims = (
            parse_json(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]
        )
        checked = _Header.model_validate(header), _Claims.model_validate(claims), claims
    except (ValueError, RecursionError):
        raise RefusedError("token: header or claims") from None
    if isinstance(header, dict) and FORBIDDEN & header.keys():
        raise RefusedError("token: header with a key or an extension")
    return checked


def _check_header(header: _Header, issuer: Issuer) -> None:
    if header.alg not in issuer.algorithms:
        raise RefusedError("token: alg")
    is_listed = _normalised(header.typ) in map(_normalised, issuer.types)
    if not is_listed and (header.typ or issuer.requires_typ):
        raise RefusedError("token: typ")


def _normalised(media_type: str) -> str:
    """Normalises a media type: case and "application/" do not matter (RFC 7515, 4.1.9)."""
    return media_type.lower().removeprefix("application/")


def _check_claims(claims: _Claims, members: object, issuer: Issuer, now: float) -> Token:
    # PyJWT has checked the form and the signature. Its checks of claims are too lenient: they take
    # "1" and 1.9 for times, and a list of audiences for any of them; and they know no lifetime.
    if not _is_for_us(find(members, issuer.audience_claim), issuer):
        raise RefusedError("token: aud")
    if not claims.sub.isprintable():
        raise RefusedError("token: sub")
    if not issuer.admits(claims.sub):
        raise RefusedError("token: sub is not in the table")
    if now >= claims.exp + LEEWAY_S:
        raise RefusedError("token: exp")
    if max(claims.iat, claims.nbf) > now + LEEWAY_S:
        raise RefusedError("token: iat or nbf")
    if not 0 < claims.exp - claims.iat <= issuer.max_lifetime:
        raise RefusedError("token: lifetime")
    if issuer.requires_nbf and "nbf" not in claims.model_fields_set:
        raise RefusedError("token: no nbf")
    for name, values in (issuer.required_claims or {}).items():
        if values.isdisjoint(texts(members, name)):
            raise RefusedError(f"token: {name} is not as required")
    scopes = scopes_of(members, issuer)
    return Token(claims.iss, claims.sub, scopes, claims.exp, claims_for_service(members, issuer))


def _is_for_us(audience: object, issuer: Issuer) -> bool:
    if audience in (issuer.audience, [issuer.audience]):
        return True
    # Any other service that is named could replay the token here.
    if not issuer.allows_other_audiences or not isinstance(audience, list):
        return False
    return issuer.audience in audience and all(isinstance(each, str) for each in audience)
