"""Stands in for four identity providers: their discovery, their keys and tokens of their shape.

The shapes are those of Keycloak 26 with an audience mapper and a groups mapper, Auth0 with RBAC,
Microsoft Entra ID (v2.0 tokens) and a service account's projected token of Kubernetes 1.30.
"""

import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web

from production.development.signing_keys import SigningKeys

AUDIENCE = "https://contacts.example.com"
"""The service, as tokens name it."""
TENANT = "11111111-2222-4333-8444-555555555555"
APPLICATION, CLIENT = (str(uuid.UUID(int=number << 96)) for number in (0xC0, 0xC1))
"""Of Entra: the service, and the program that calls it."""

Claims = dict[str, Any]


def keycloak() -> Claims:
    return {
        "jti": f"trrtcc:{uuid.uuid4()}",
        "aud": ["contacts", "account"],
        "sub": "3f1c4f64-2c0c-4cda-8c9f-9f3f8f3a2b0e",
        "typ": "Bearer",
        "azp": "web",
        "sid": str(uuid.uuid4()),
        "acr": "1",
        "allowed-origins": ["https://web.example.com"],
        "realm_access": {"roles": ["default-roles-shop", "offline_access", "contacts editor"]},
        "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}},
        "scope": "openid email profile",
        "email_verified": True,
        "groups": ["/staff", "/berlin"],
        "preferred_username": "ada",
    }


def auth0() -> Claims:
    return {
        "sub": "auth0|65f0c0ffee0c0ffee0c0ffee",
        "aud": [AUDIENCE, "https://shop.eu.auth0.com/userinfo"],
        "scope": "openid profile email read:contacts",
        "org_id": "org_9ybsU1dN2dKfDkBi",
        "azp": "web",
        "permissions": ["read:contacts", "write:contacts"],
    }


def entra() -> Claims:
    return {
        "aud": APPLICATION,
        "aio": secrets.token_urlsafe(32),
        "azp": CLIENT,
        "azpacr": "1",
        "name": "Ada Lovelace",
        "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
        "preferred_username": "ada@example.com",
        "rh": secrets.token_urlsafe(32),
        "scp": "contacts.read contacts.write",
        "sub": secrets.token_urlsafe(32),
        "tid": TENANT,
        "uti": secrets.token_urlsafe(16),
        "ver": "2.0",
    }


def kubernetes() -> Claims:
    return {
        "aud": [AUDIENCE],
        "jti": str(uuid.uuid4()),
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node-1", "uid": str(uuid.uuid4())},
            "pod": {"name": "orders-5d8f6c7b9-x2x7k", "uid": str(uuid.uuid4())},
            "serviceaccount": {"name": "orders", "uid": str(uuid.uuid4())},
        },
        "sub": "system:serviceaccount:shop:orders",
    }


class Provider(NamedTuple):
    """How a provider's tokens look; what is not here, all have."""

    path: str
    """What follows the host in the name of the issuer."""
    claims: Callable[[], Claims]
    lifetime: int
    """Seconds from iat to exp."""
    typ: str = "JWT"
    """The header; empty: none."""
    has_nbf: bool = False


PROVIDERS = {
    "keycloak": Provider("/realms/shop", keycloak, 300),
    "auth0": Provider("/auth0/", auth0, 86_400),
    "entra": Provider(f"/{TENANT}/v2.0", entra, 5_100, has_nbf=True),
    "kubernetes": Provider("/kubernetes", kubernetes, 3_600, typ="", has_nbf=True),
}


class ProviderStandIns:
    """The issuers of a server at url, which is set when the server has started."""

    def __init__(self) -> None:
        self.url = ""
        self._keys: dict[str, SigningKeys] = {}

    def routes(self) -> list[web.RouteDef]:
        return [route for name in PROVIDERS for route in self._routes(name)]

    def rotate(self) -> None:
        """Signs with the next keys."""
        for keys in self._keys.values():
            keys.rotate()

    def issuer(self, name: str) -> str:
        """Returns a provider's name for itself, the claim iss."""
        return self.url + PROVIDERS[name].path

    def token(self, name: str, **changes: Any) -> str:
        """Returns a token of a provider, with changes to its claims; None leaves one out."""
        provider = PROVIDERS[name]
        now = int(time.time())
        times = {"iat": now, "exp": now + provider.lifetime}
        if provider.has_nbf:
            times["nbf"] = now
        claims = {"iss": self.issuer(name)} | times | provider.claims() | changes
        claims = {claim: value for claim, value in claims.items() if value is not None}
        return self._keys_of(name).sign(provider.typ, claims)

    def _keys_of(self, name: str) -> SigningKeys:
        """Makes the keys when they are needed: RSA keys take a while."""
        if name not in self._keys:
            self._keys[name] = SigningKeys("RS256")
        return self._keys[name]

    def _routes(self, name: str) -> list[web.RouteDef]:
        path = PROVIDERS[name].path.removesuffix("/")

        async def discovery(_request: web.Request) -> web.Response:
            return web.json_response(
                {"issuer": self.issuer(name), "jwks_uri": f"{self.url}{path}/keys"}
            )

        async def keys(_request: web.Request) -> web.Response:
            return web.json_response(self._keys_of(name).published())

        return [
            web.get(f"{path}/.well-known/openid-configuration", discovery),
            web.get(f"{path}/keys", keys),
        ]
