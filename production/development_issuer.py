"""An identity provider for development: real tokens over real HTTP, for callers on this machine.

    python -m production.development_issuer --port 8080

It makes all keys and secrets anew at each start, and writes what clients and servers need to
build/issuer. SIGHUP rotates its signing keys. What stands in for what:

    /.well-known/jwks.json  the keys of your identity provider
    /token                  its token endpoint: client credentials (RFC 6749, 4.4)
    /google/certs           https://www.googleapis.com/oauth2/v3/certs
    /google/token           https://oauth2.googleapis.com/token
    /google/jwk/EMAIL       https://www.googleapis.com/service_accounts/v1/jwk/EMAIL
"""

import argparse
import asyncio
import ipaddress
import json
import secrets
import signal
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

LIFETIME_S = 300
GOOGLE_LIFETIME_S = 3_600
CLIENTS = {"editor": {"contacts.read", "contacts.write"}, "viewer": {"contacts.read"}}
"""What each client may ask for."""
AUDIENCE = "https://contacts.example.com"
"""What the service is called in tokens."""
ROBOT_ID = "100000000000000000001"
EMAIL = "robot@development.iam.gserviceaccount.com"
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address.
"""google-auth names this audience in its assertions, wherever it sends them."""
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
NO_STORE = {"Cache-Control": "no-store"}

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class SigningKeys:
    """The previous key, the current one and the next. All are published, one signs.

    So who verifies knows a key before it is used, and until all that it has signed has expired.
    """

    def __init__(self, algorithm: str) -> None:
        """algorithm is ES256 or RS256."""
        self._algorithm = algorithm
        self._keys = deque([self._make(), self._make()], maxlen=3)

    def _make(self) -> tuple[str, PrivateKey]:
        return secrets.token_hex(8), make_key(self._algorithm)

    def rotate(self) -> None:
        self._keys.append(self._make())

    def sign(self, kind: str, claims: dict[str, Any]) -> str:
        """A token of that type."""
        kid, key = self._keys[-2]
        return jwt.encode(claims, key, self._algorithm, {"kid": kid, "typ": kind})

    def published(self) -> dict[str, Any]:
        return {"keys": [public_jwk(kid, key, self._algorithm) for kid, key in self._keys]}


def make_key(algorithm: str) -> PrivateKey:
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(kid: str, key: PrivateKey, algorithm: str) -> dict[str, Any]:
    methods = jwt.get_algorithm_by_name(algorithm)
    jwk: dict[str, Any] = methods.to_jwk(key.public_key(), as_dict=True)
    return jwk | {"kid": kid, "alg": algorithm, "use": "sig", "key_ops": ["verify"]}


class DevelopmentIssuer:
    """A running identity provider."""

    def __init__(self) -> None:
        self.url = ""
        self.secrets = {client: secrets.token_urlsafe(24) for client in CLIENTS}
        self._keys = SigningKeys("ES256")
        self._google_keys = SigningKeys("RS256")
        self._robot_kid, self._robot_key = secrets.token_hex(20), make_key("RS256")
        app = web.Application(client_max_size=65_536)
        app.add_routes(
            [
                web.get("/.well-known/jwks.json", self._jwks),
                web.post("/token", self._token),
                web.get("/google/certs", self._google_certs),
                web.post("/google/token", self._google_token),
                web.get(f"/google/jwk/{EMAIL}", self._robot_jwk),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def start(self, host: str, port: int) -> int:
        """Serves; returns the port. Raises OSError when the address cannot be had."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        self.url = f"http://{host}:{bound}"
        return bound

    async def stop(self, _grace: float | None = None) -> None:
        await self._runner.cleanup()

    def rotate(self) -> None:
        """The next keys sign from now on. Two rotations later a key is no longer published."""
        self._keys.rotate()
        self._google_keys.rotate()

    def access_token(self, client: str, audience: str, scopes: set[str]) -> str:
        """What /token answers (RFC 9068)."""
        now = int(time.time())
        return self._keys.sign(
            "at+jwt",
            {
                "iss": self.url,
                "sub": client,
                "client_id": client,
                "aud": audience,
                "scope": " ".join(sorted(scopes)),
                "iat": now,
                "nbf": now,
                "exp": now + LIFETIME_S,
                "jti": secrets.token_hex(16),
            },
        )

    def service_account(self) -> dict[str, str]:
        """A key file such as Google gives out for a service account."""
        pem = self._robot_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "type": "service_account",
            "project_id": "development",
            "client_email": EMAIL,
            "client_id": ROBOT_ID,
            "private_key_id": self._robot_kid,
            "private_key": pem.decode(),
            "token_uri": f"{self.url}/google/token",
        }

    def table(self, audience: str) -> list[dict[str, Any]]:
        """The CONTACTS_ISSUERS of a server that trusts it, and its stand-ins for Google."""
        google = {
            "audience": audience,
            "algorithms": ["RS256"],
            "types": ["JWT"],
            "requires_nbf": False,
            "scopes": ["contacts.read"],
        }
        return [
            {
                "issuer": self.url,
                "audience": audience,
                "jwks": f"{self.url}/.well-known/jwks.json",
            },
            {
                "issuer": f"{self.url}/google",
                "jwks": f"{self.url}/google/certs",
                "subjects": [ROBOT_ID],
                **google,
            },
            {
                "issuer": EMAIL,
                "jwks": f"{self.url}/google/jwk/{EMAIL}",
                "subjects": [EMAIL],
                **google,
            },
        ]

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response(self._keys.published())

    async def _google_certs(self, _request: web.Request) -> web.Response:
        return web.json_response(self._google_keys.published())

    async def _robot_jwk(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [public_jwk(self._robot_kid, self._robot_key, "RS256")]})

    async def _token(self, request: web.Request) -> web.Response:
        client = self._client(request.headers.get("Authorization", ""))
        if client is None:
            return refuse("invalid_client", status=401)
        form = await request.post()
        if form.get("grant_type") != "client_credentials":
            return refuse("unsupported_grant_type")
        wanted = set(str(form.get("scope", "")).split()) or CLIENTS[client]
        audience = form.get("audience")
        if not wanted <= CLIENTS[client]:
            return refuse("invalid_scope")
        if not isinstance(audience, str) or not audience:
            return refuse("invalid_request")
        return answer(LIFETIME_S, access_token=self.access_token(client, audience, wanted))

    def _client(self, authorization: str) -> str | None:
        """Who presents its own secret (HTTP Basic), if anybody."""
        try:
            given = aiohttp.BasicAuth.decode(authorization)
        except ValueError:
            return None
        secret = self.secrets.get(given.login, "")
        same = secrets.compare_digest(given.password.encode(), secret.encode())
        return given.login if secret and same else None

    async def _google_token(self, request: web.Request) -> web.Response:
        """An ID token for an assertion with target_audience, an access token for one with scope."""
        form = await request.post()
        if form.get("grant_type") != JWT_BEARER:
            return refuse("unsupported_grant_type")
        try:
            claims = jwt.decode(
                str(form.get("assertion")),
                self._robot_key.public_key(),
                algorithms=["RS256"],
                audience=GOOGLE_TOKEN_URL,
                issuer=EMAIL,
                options={"require": ["iss", "aud", "iat", "exp"]},
            )
        except jwt.PyJWTError:
            return refuse("invalid_grant")
        if "target_audience" in claims:
            token = self._id_token(str(claims["target_audience"]))
            return answer(GOOGLE_LIFETIME_S, id_token=token)
        # Opaque, as Google's are: only Google itself can tell what it stands for.
        return answer(GOOGLE_LIFETIME_S, access_token="ya29." + secrets.token_urlsafe(64))

    def _id_token(self, audience: str) -> str:
        now = int(time.time())
        return self._google_keys.sign(
            "JWT",
            {
                "iss": f"{self.url}/google",
                "sub": ROBOT_ID,
                "aud": audience,
                "azp": EMAIL,
                "email": EMAIL,
                "email_verified": True,
                "iat": now,
                "exp": now + GOOGLE_LIFETIME_S,
            },
        )


def answer(lifetime: int, **token: str) -> web.Response:
    fields = {**token, "token_type": "Bearer", "expires_in": lifetime}
    return web.json_response(fields, headers=NO_STORE)


def refuse(error: str, status: int = 400) -> web.Response:
    """RFC 6749, 5.2."""
    headers = NO_STORE | ({"WWW-Authenticate": "Basic"} if status == 401 else {})
    return web.json_response({"error": error}, status=status, headers=headers)


async def start(address: str = "127.0.0.1:0") -> tuple[DevelopmentIssuer, int]:
    """Starts an issuer; returns it and its port.

    Raises ValueError when the address is not a loopback one, OSError when it cannot be had.
    """
    host, _, port = address.rpartition(":")
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{host} is not a loopback address")
    issuer = DevelopmentIssuer()
    return issuer, await issuer.start(host, int(port))


def write_secret(path: Path, content: str) -> None:
    """A file that nobody else may read, whole at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:  # Mode 0600.
        file.write(content)
    Path(file.name).replace(path)


def write_tokens(issuer: DevelopmentIssuer, folder: Path) -> None:
    """A token for each client, in CLIENT.token."""
    for client, scopes in CLIENTS.items():
        write_secret(folder / f"{client}.token", issuer.access_token(client, AUDIENCE, scopes))


async def renew_tokens(issuer: DevelopmentIssuer, folder: Path) -> None:
    """Replaces the clients' tokens long before they expire, as Kubernetes does in a volume."""
    while True:
        await asyncio.sleep(LIFETIME_S / 5)
        write_tokens(issuer, folder)


async def serve(address: str, folder: Path) -> None:
    """Serves until SIGINT or SIGTERM; SIGHUP rotates the keys."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        issuer, _ = await start(address)
        write_secret(folder / "clients.json", json.dumps(issuer.secrets))
        write_secret(folder / "service-account.json", json.dumps(issuer.service_account()))
        write_secret(folder / "issuers.json", json.dumps(issuer.table(AUDIENCE)))
        write_tokens(issuer, folder)
    except (OSError, OverflowError) as error:
        sys.exit(f"error: {error}")
    loop.add_signal_handler(signal.SIGHUP, issuer.rotate)
    print(f"listening on {issuer.url}", flush=True)
    renewing = asyncio.create_task(renew_tokens(issuer, folder))
    await stop.wait()
    renewing.cancel()
    await issuer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Issue tokens for development.")
    parser.add_argument("--port", type=int, default=8080, help="0: any free one")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/issuer"), help="where clients find their secrets"
    )
    args = parser.parse_args()
    asyncio.run(serve(f"127.0.0.1:{args.port}", args.folder))


if __name__ == "__main__":
    main()
