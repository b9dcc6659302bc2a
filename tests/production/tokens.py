"""Tokens for tests: an issuer's keys, a server that publishes them, and tokens signed by them."""

import base64
import json
import time
from functools import cache

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

NOW = 1_800_000_000
ISSUER, AUDIENCE = "https://issuer.example.com", "https://contacts.example.com"
ABSENT = object()
"""The value of a member that a token or key does not have."""
CLAIMS = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "ada",
    "scope": "contacts.read contacts.write",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 300,
}


@cache
def private_key(kind):
    match kind:
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
    bits = {"RSA": 2048, "other RSA": 2048, "weak RSA": 1024}[kind]
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def public(kind, alg, **changes):
    """The JWK of a key; its id is its kind."""
    algorithm = jwt.get_algorithm_by_name(alg)
    jwk = algorithm.to_jwk(private_key(kind).public_key(), as_dict=True)
    return changed(jwk | {"kid": kind, "alg": alg, "use": "sig"}, changes)


def changed(members, changes):
    return {name: value for name, value in {**members, **changes}.items() if value is not ABSENT}


def encode(part):
    if not isinstance(part, bytes):
        part = json.dumps(part).encode()
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def sign(data, kind, alg):
    algorithm = jwt.get_algorithm_by_name(alg)
    return algorithm.sign(data, private_key(kind))


def make(header=None, claims=None, *, kind="RSA", alg="RS256", signature=None, edit=str):
    """A token, good but for what is said. header and claims: changes, or all of it as bytes."""
    if not isinstance(header, bytes):
        header = changed({"alg": alg, "kid": kind, "typ": "at+jwt"}, header or {})
    if not isinstance(claims, bytes):
        claims = changed(CLAIMS, claims or {})
    data = f"{encode(header)}.{encode(claims)}"
    made = signature(data.encode()) if signature else sign(data.encode(), kind, alg)
    return edit(f"{data}.{encode(made)}")


def bearer(**claims):
    """Metadata with a token that is valid now, but for the claims."""
    now = int(time.time())
    times = {"iat": now, "nbf": now, "exp": now + 300}
    return [("authorization", "Bearer " + make(claims=times | claims))]


class Provider:
    """A real HTTP server with an issuer's keys, or whatever `answer` gives instead."""

    def __init__(self):
        self.fetches = self.discoveries = 0
        self.answer = self.discovery = None
        self.other_keys = []
        self.keys = [
            public("RSA", "RS256"),
            public("other RSA", "RS256"),
            public("P-256", "ES256"),
        ]

    async def start(self, address):
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        host, _, port = address.rpartition(":")
        await web.TCPSite(self._runner, host, int(port)).start()
        return self, self._runner.addresses[0][1]

    async def stop(self, _grace):
        await self._runner.cleanup()

    async def _get(self, request):
        if request.path == "/jwks/other":
            return web.json_response({"keys": self.other_keys})
        if request.path.endswith("/.well-known/openid-configuration"):
            self.discoveries += 1
            return await self.discovery(request)
        self.fetches += request.path == "/jwks"
        if self.answer and request.path == "/jwks":
            return await self.answer(request)
        return web.json_response({"keys": self.keys})
