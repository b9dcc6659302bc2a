"""Who holds a bearer token: JSON Web Tokens, verified by their issuers' keys. Knows no gRPC.

A token is refused unless everything about it is as its issuer's line in the table says. The key
comes from the table's address, never from the token.
"""

import base64
import contextlib
import hashlib
import ipaddress
import re
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import jwt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from production.jwks import Keys, KeySource, KeysUnavailableError, parse_json

__all__ = ["Issuer", "Issuers", "KeysUnavailableError", "RefusedError", "Token", "Verifier"]

LEEWAY_S = 30
"""How far an issuer's clock may be from ours."""
MAX_TOKEN = 8_192
"""Characters. Longer ones would hardly pass as metadata."""
MAX_REMEMBERED = 10_000
"""Verified tokens; the oldest is forgotten first."""
THREE_PARTS = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
JWS = jwt.PyJWS()


def _check_jwks(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("must be like https://host/path")
    with contextlib.suppress(ValueError):
        if parts.scheme == "http" and ipaddress.ip_address(parts.hostname).is_loopback:
            return url
    if parts.scheme != "https":
        raise ValueError("must begin with https:// (http:// only with 127.0.0.1 or [::1])")
    return url


class Issuer(BaseModel):
    """One line of the table: whose tokens are accepted, and what they must be.

    Tokens from Google have the type "JWT", no nbf and no scope: they need `types`, `requires_nbf`
    and `scopes`. A service account signs its own tokens, and could claim any scope: `scopes` bounds
    it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1, description="the claim iss")
    audience: str = Field(min_length=1, description="the claim aud: what issuers call this service")
    jwks: Annotated[str, AfterValidator(_check_jwks)] = Field(description="where the keys are")
    # The two that issuers use unless told otherwise. A key without `alg` fits all of its type.
    algorithms: frozenset[Literal["RS256", "PS256", "ES256", "ES384", "EdDSA"]] = Field(
        frozenset({"RS256", "ES256"}), min_length=1
    )
    types: frozenset[str] = Field(
        frozenset({"at+jwt"}), min_length=1, description="the header typ; at+jwt: access tokens"
    )
    max_lifetime: int = Field(3_600, ge=1, le=86_400, description="seconds from iat to exp")
    requires_nbf: bool = Field(True, description="whether a token without nbf is refused")
    scopes: frozenset[Literal["contacts.read", "contacts.write"]] | None = Field(
        None, description="the most a token may do; needed for tokens without the claim scope"
    )
    subjects: frozenset[str] | None = Field(
        None, description="who may call; needed with scopes: of Google, anybody has a token"
    )

    @model_validator(mode="after")
    def _check_subjects(self) -> Self:
        if self.scopes is not None and self.subjects is None:
            raise ValueError("scopes that the table grants need subjects to grant them to")
        return self


def _check_distinct(issuers: tuple[Issuer, ...]) -> tuple[Issuer, ...]:
    names = [issuer.issuer for issuer in issuers]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is there more than once")
    return issuers


Issuers = Annotated[tuple[Issuer, ...], AfterValidator(_check_distinct)]
"""The table, as a field of settings."""


class Token(NamedTuple):
    """What a verified token says."""

    issuer: str
    subject: str
    """1 to 255 printable characters; one issuer's subject is not another's."""
    scopes: frozenset[str]
    expires: float
    """In Unix seconds. The token is accepted for `LEEWAY_S` longer."""


class RefusedError(Exception):
    """The credentials are not accepted. Why is for the log alone: a forger would learn from it."""

    def __init__(self, reason: str = "none shown") -> None:
        """reason quotes nothing of them."""
        super().__init__("the credentials are not accepted")
        self.reason = reason


class _Refusal(Exception):
    """Why a token is refused. Quotes nothing of it."""


class _Header(BaseModel):
    """These members and no other: no key of the sender's (jwk, jku, x5c, x5u), no crit."""

    model_config = ConfigDict(strict=True, extra="forbid")

    alg: str
    kid: str
    typ: str
    x5t: str = ""  # Entra's tokens name a certificate here. Not used.


class _Claims(BaseModel):
    """Strict: times are whole numbers; neither "1" nor 1.0 nor true is one."""

    model_config = ConfigDict(strict=True)

    iss: str
    aud: str | list[str]
    sub: str = Field(min_length=1, max_length=255)
    exp: int
    iat: int
    nbf: int = 0
    scope: str = ""


class Verifier:
    """Verifies tokens. For one event loop; any number of tasks may call it at once."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock gives Unix seconds. Raises ValueError when two issuers have the same name."""
        self._clock = clock
        self._issuers = {
            issuer.issuer: (issuer, KeySource(issuer.jwks, issuer.algorithms, monotonic=monotonic))
            for issuer in _check_distinct(tuple(issuers))
        }
        # By digest, so that whoever reads this memory finds no token to use.
        self._remembered: dict[bytes, tuple[Token, KeySource, Keys]] = {}

    async def verify(self, token: str) -> Token:
        """What the token says. Raises RefusedError, KeysUnavailableError."""
        try:
            if len(token) > MAX_TOKEN or not THREE_PARTS.fullmatch(token):
                raise _Refusal("form")
            digest = hashlib.sha256(token.encode()).digest()
            return await self._recall(digest) or await self._verify(token, digest)
        except _Refusal as refusal:
            raise RefusedError(f"token: {refusal}") from None

    async def close(self) -> None:
        """Ends fetches that are under way."""
        for _, source in self._issuers.values():
            await source.close()

    async def _recall(self, digest: bytes) -> Token | None:
        if digest not in self._remembered:
            return None
        token, source, keys = self._remembered[digest]
        # When any key of the issuer has changed, its tokens are verified anew.
        if await source.keys() is keys and self._clock() < token.expires + LEEWAY_S:
            return token
        self._remembered.pop(digest, None)
        return None

    async def _verify(self, token: str, digest: bytes) -> Token:
        header, claims = _read(token)
        if claims.iss not in self._issuers:
            raise _Refusal("issuer")
        issuer, source = self._issuers[claims.iss]
        _check_header(header, issuer)
        name = header.kid, header.alg
        keys = await source.keys(wanted=name)
        if name not in keys:
            raise _Refusal("key")
        try:
            JWS.decode(token, keys[name])
        except jwt.PyJWTError:
            raise _Refusal("signature") from None
        verified = _check_claims(claims, issuer, self._clock())
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = verified, source, keys
        return verified


def _read(token: str) -> tuple[_Header, _Claims]:
    """What the token says, not yet to be believed."""
    try:
        header, claims = (
            parse_json(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]
        )
        return _Header.model_validate(header), _Claims.model_validate(claims)
    except (ValueError, RecursionError):
        raise _Refusal("header or claims") from None


def _check_header(header: _Header, issuer: Issuer) -> None:
    if header.alg not in issuer.algorithms:
        raise _Refusal("alg")
    if _short(header.typ) not in map(_short, issuer.types):
        raise _Refusal("typ")


def _short(media_type: str) -> str:
    """Case does not matter, and "application/" may be left out (RFC 7515, 4.1.9)."""
    return media_type.lower().removeprefix("application/")


def _check_claims(claims: _Claims, issuer: Issuer, now: float) -> Token:
    given = claims.model_fields_set
    # For us alone: another service that is named beside us could use the token here.
    if claims.aud not in (issuer.audience, [issuer.audience]):
        raise _Refusal("aud")
    if not claims.sub.isprintable():
        raise _Refusal("sub")
    if issuer.subjects is not None and claims.sub not in issuer.subjects:
        raise _Refusal("sub is not in the table")
    if now >= claims.exp + LEEWAY_S:
        raise _Refusal("exp")
    if max(claims.iat, claims.nbf) > now + LEEWAY_S:
        raise _Refusal("iat or nbf")
    if not 0 < claims.exp - claims.iat <= issuer.max_lifetime:
        raise _Refusal("lifetime")
    if issuer.requires_nbf and "nbf" not in given:
        raise _Refusal("no nbf")
    return Token(claims.iss, claims.sub, _scopes(claims, issuer), claims.exp)


def _scopes(claims: _Claims, issuer: Issuer) -> frozenset[str]:
    claimed = frozenset(claims.scope.split())
    if "scope" not in claims.model_fields_set:
        if issuer.scopes is None:
            raise _Refusal("no scope")
        return issuer.scopes
    return claimed if issuer.scopes is None else claimed & issuer.scopes
