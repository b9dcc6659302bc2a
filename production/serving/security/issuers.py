"""The table of token issuers: whose tokens are accepted, and what they must contain.

Run it, and it prints the fields of an entry:

    python -m production.serving.security.issuers
"""

import contextlib
import ipaddress
import re
from collections.abc import Collection
from typing import Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from production.serving import settings_table

POINTER = re.compile(r"(/([^~/]|~[01])+)+")
OPEN_ISSUERS = {
    "https://accounts.google.com",
    "https://token.actions.githubusercontent.com",
    "https://gitlab.com",
    "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
}
"""Issuers of which anybody can have an account, and so a token for this service."""
ANY = "*"
Collected = TypeVar("Collected", bound=Collection[object])


def check_url(url: str) -> str:
    """Returns the URL. Raises ValueError if its answer could be read or changed on the way."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None or parts.fragment:
        raise ValueError("must be like https://host/path")
    with contextlib.suppress(ValueError):
        if parts.scheme == "http" and ipaddress.ip_address(parts.hostname).is_loopback:
            return url
    if parts.scheme != "https":
        raise ValueError("must begin with https:// (http:// only with 127.0.0.1 or [::1])")
    return url


def _check_claim(name: str) -> str:
    if not name or (name.startswith("/") and not POINTER.fullmatch(name)):
        raise ValueError(
            "must be the name of a claim, or for one inside another a path such as "
            "/realm_access/roles (/ and ~ in a name are written ~1 and ~0)"
        )
    return name


def _check_filled(collection: Collected) -> Collected:
    # Not min_length, which says of a list with one wrong entry that it has none.
    if not collection:
        raise ValueError("may not be empty: leave it out")
    return collection


Text = Annotated[str, Field(min_length=1)]
Claim = Annotated[str, AfterValidator(_check_claim), "claim"]
FILLED = AfterValidator(_check_filled)
Texts = Annotated[frozenset[Text], FILLED]
Url = Annotated[str, AfterValidator(check_url), "URL"]


class Issuer(BaseModel):
    """An entry of the table. The defaults accept access tokens as RFC 9068 describes them.

    A claim is a name, or a JSON pointer (RFC 6901) to one inside another: names may contain dots.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Text = Field(description="the claim `iss`, exactly")
    audience: Text = Field(description="this service, as the issuer names it")
    audience_claim: Claim = Field("aud", description="what must be `audience`, and nothing else")
    allows_other_audiences: bool = Field(
        False, description="whether that may be a list which names other services, too"
    )
    jwks: Url | None = Field(
        None, description="address of the keys; without it, OpenID Connect discovery finds it"
    )
    discovery: Url | None = Field(
        None,
        description="its document, if not at `/.well-known/openid-configuration` below `issuer`",
    )
    # Issuers use these two by default. A key without `alg` fits all algorithms of its type.
    algorithms: Annotated[
        frozenset[Literal["RS256", "PS256", "ES256", "ES384", "EdDSA"]],
        FILLED,
        "list of `RS256`, `PS256`, `ES256`, `ES384`, `EdDSA`",
    ] = Field(frozenset({"RS256", "ES256"}), description="how tokens are signed")
    types: Annotated[Texts, "list"] = Field(
        frozenset({"at+jwt"}), description="the header `typ`; `at+jwt`: access tokens"
    )
    requires_typ: bool = Field(True, description="whether a token without `typ` is refused")
    requires_nbf: bool = Field(True, description="whether a token without `nbf` is refused")
    # 28 hours is Entra's longest, with continuous access evaluation.
    max_lifetime: Annotated[int, "seconds"] = Field(
        3_600, ge=1, le=100_800, description="from `iat` to `exp`; 28 hours at most"
    )
    scope_claims: Annotated[tuple[Claim, ...], FILLED, "list of claims"] | None = Field(
        None,
        description="what holds the scopes: the first in a token counts; by default `scope`",
    )
    roles: Annotated[dict[Text, Texts], FILLED, "object of lists"] | None = Field(
        None,
        description="the scopes that each value in there grants; "
        "without it, the values are the scopes",
    )
    scopes: Annotated[Texts, "list"] | None = Field(
        None,
        description="the most a token may do; without `scope_claims` and `roles`, "
        "also what a token without `scope` may do",
    )
    subjects: Annotated[Texts, "list"] | None = Field(
        None,
        description="who may call, by `sub`; a `*` at the end is any rest, `*` alone is anybody",
    )
    required_claims: Annotated[dict[Claim, Texts], FILLED, "object of lists"] | None = Field(
        None, description="claims that must be, or contain, one of these texts"
    )
    claims: Annotated[dict[Text, Claim], FILLED, "object of claims"] | None = Field(
        None, description="claims for the service, by the names that it knows"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.jwks and self.discovery:
            raise ValueError("jwks and discovery are mutually exclusive")
        if not self.jwks:
            self._check_discovery()
        for subject in self.subjects or ():
            if "*" in subject[:-1]:
                raise ValueError("subjects: a * is possible at the end only")
        self._check_callers()
        return self

    def _check_discovery(self) -> None:
        try:
            check_url(self.discovery or self.issuer)
        except ValueError:
            raise ValueError("jwks is needed: the issuer is not an https:// address") from None

    def _check_callers(self) -> None:
        """Who gets scopes from the table must be in the table. Of Google, anybody has a token."""
        if self.granted_without_claim is not None and self.subjects is None:
            raise ValueError(
                "scopes without scope_claims or roles are granted by this table: "
                'name the subjects, or set them to ["*"], which is anybody'
            )
        is_open = self.issuer in OPEN_ISSUERS and not self.required_claims
        if is_open and (self.subjects is None or ANY in self.subjects):
            raise ValueError(
                f"anybody can have a token of {self.issuer}: name the subjects, or required_claims"
            )

    @property
    def granted_without_claim(self) -> frozenset[str] | None:
        """The scopes of a token without the claim `scope`, or None if it is refused."""
        return None if self.scope_claims or self.roles else self.scopes

    @property
    def named_scopes(self) -> frozenset[str]:
        """All scopes in the entry."""
        return frozenset().union(self.scopes or (), *(self.roles or {}).values())

    @property
    def discovery_url(self) -> str:
        """The address of the discovery document (OpenID Connect Discovery 1.0, 4)."""
        return self.discovery or f"{self.issuer.removesuffix('/')}/.well-known/openid-configuration"

    def admits(self, subject: str) -> bool:
        """Tells whether the subject may call."""
        return self.subjects is None or any(
            subject.startswith(each[:-1]) if each.endswith("*") else subject == each
            for each in self.subjects
        )


def check_distinct(issuers: tuple[Issuer, ...]) -> tuple[Issuer, ...]:
    """Returns the issuers. Raises ValueError if two have the same name."""
    names = [issuer.issuer for issuer in issuers]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is listed more than once")
    return issuers


Issuers = Annotated[tuple[Issuer, ...], AfterValidator(check_distinct)]
"""The table, as a field of settings."""


def fields() -> str:
    """Returns the fields of an entry, as a table in Markdown."""
    return settings_table.members(Issuer.model_fields)


if __name__ == "__main__":
    print(fields())
