"""An identity provider for development: real tokens over real HTTP, for callers on this machine.

Run it:

    python -m production.development.issuer --port 8080

At each start it makes new keys and secrets, and writes what clients and servers need to
build/issuer. SIGHUP rotates its signing keys. Its endpoints, and what each stands in for:

    /.well-known/jwks.json  the keys of your identity provider
    /token                  its token endpoint: client credentials (RFC 6749, 4.4)
    /google/certs           https://www.googleapis.com/oauth2/v3/certs
    /google/token           https://oauth2.googleapis.com/token
    /google/jwk/EMAIL       https://www.googleapis.com/service_accounts/v1/jwk/EMAIL

It and Google's stand-in have a discovery document at /.well-known/openid-configuration, as have
stand-ins for Keycloak, Auth0, Entra and Kubernetes (provider_stand_ins.py).
"""

import argparse
import asyncio
import json
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from production.calling import addresses
from production.development.google_stand_in import GoogleStandIn
from production.development.provider_stand_ins import PROVIDERS, ProviderStandIns
from production.development.signing_keys import SigningKeys
from production.development.token_endpoint import answer, refuse

LIFETIME_S = 300
SERVICE = "contacts"
"""The service that tokens are for, unless a flag names another one."""


def clients_of(service: str) -> dict[str, set[str]]:
    """Returns the scopes that each client may ask for."""
    return {"editor": {f"{service}.read", f"{service}.write"}, "viewer": {f"{service}.read"}}


def audience_of(service: str) -> str:
    """Returns the service as tokens name it."""
    return f"https://{service}.example.com"


CLIENTS, AUDIENCE = clients_of(SERVICE), audience_of(SERVICE)


class DevelopmentIssuer:
    """A running identity provider."""

    def __init__(self, service: str = SERVICE) -> None:
        self.url = ""
        self.service = service
        self.clients = clients_of(service)
        self.secrets = {client: secrets.token_urlsafe(24) for client in self.clients}
        self.google = GoogleStandIn()
        self.providers = ProviderStandIns()
        self._keys = SigningKeys("ES256")
        app = web.Application(client_max_size=65_536)
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._discovery),
                web.get("/.well-known/jwks.json", self._jwks),
                web.post("/token", self._token),
                *self.google.routes(),
                *self.providers.routes(),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def start(self, host: str, port: int) -> int:
        """Serves; returns the port. Raises OSError if the address is unavailable."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        self.url = self.google.url = self.providers.url = f"http://{host}:{bound}"
        return bound

    async def stop(self, _grace: float | None = None) -> None:
        await self._runner.cleanup()

    def rotate(self) -> None:
        """Signs with the next keys. Until the next rotation, the old ones stay published."""
        self._keys.rotate()
        self.google.keys.rotate()
        self.providers.rotate()

    def access_token(self, client: str, audience: str, scopes: set[str]) -> str:
        """Returns a token such as /token issues (RFC 9068)."""
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

    def table(self, audience: str) -> list[dict[str, Any]]:
        """Returns the issuers of a server that trusts it and its stand-ins for Google."""
        ours = {
            "issuer": self.url,
            "audience": audience,
            "jwks": f"{self.url}/.well-known/jwks.json",
        }
        return [ours, *self.google.table(audience, f"{self.service}.read")]

    async def _discovery(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"issuer": self.url, "jwks_uri": f"{self.url}/.well-known/jwks.json"}
        )

    async def _jwks(self, _request: web.Request) -> web.Response:
        return web.json_response(self._keys.published())

    async def _token(self, request: web.Request) -> web.Response:
        client = self._client(request.headers.get("Authorization", ""))
        if client is None:
            return refuse("invalid_client", status=401)
        form = await request.post()
        if form.get("grant_type") != "client_credentials":
            return refuse("unsupported_grant_type")
        wanted = set(str(form.get("scope", "")).split()) or self.clients[client]
        audience = form.get("audience")
        if not wanted <= self.clients[client]:
            return refuse("invalid_scope")
        if not isinstance(audience, str) or not audience:
            return refuse("invalid_request")
        return answer(LIFETIME_S, access_token=self.access_token(client, audience, wanted))

    def _client(self, authorization: str) -> str | None:
        """Returns the client that sends its own secret (HTTP Basic), or None."""
        try:
            given = aiohttp.BasicAuth.decode(authorization)
        except ValueError:
            return None
        secret = self.secrets.get(given.login, "")
        same = secrets.compare_digest(given.password.encode(), secret.encode())
        return given.login if secret and same else None


async def start(
    address: str = "127.0.0.1:0", service: str = SERVICE
) -> tuple[DevelopmentIssuer, int]:
    """Starts an issuer of tokens for a service; returns it and its port.

    Raises ValueError if the address is not on loopback, OSError if it is unavailable.
    """
    place = addresses.parse(address)
    if not place.is_loopback:
        raise ValueError(f"{place.host} is not a loopback address")
    issuer = DevelopmentIssuer(service)
    return issuer, await issuer.start(*place)


def write_secret(path: Path, content: str) -> None:
    """Writes a file that only its owner may read. It replaces the old one in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:  # Mode 0600.
        file.write(content)
    Path(file.name).replace(path)


def write_tokens(issuer: DevelopmentIssuer, folder: Path) -> None:
    """Writes a token for each client, to CLIENT.token, and one of each provider's shape."""
    audience = audience_of(issuer.service)
    for client, scopes in issuer.clients.items():
        write_secret(folder / f"{client}.token", issuer.access_token(client, audience, scopes))
    for provider in PROVIDERS:
        write_secret(folder / f"{provider}.token", issuer.providers.token(provider))
    write_secret(folder / "google.token", issuer.google.id_token(audience))


async def renew_tokens(issuer: DevelopmentIssuer, folder: Path) -> None:
    """Replaces the tokens long before they expire, as a kubelet does with projected tokens."""
    while True:
        await asyncio.sleep(LIFETIME_S / 5)
        write_tokens(issuer, folder)


async def serve(address: str, folder: Path, service: str = SERVICE) -> None:
    """Serves until SIGINT or SIGTERM; SIGHUP rotates the keys."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        issuer, _ = await start(address, service)
        write_secret(folder / "clients.json", json.dumps(issuer.secrets))
        write_secret(folder / "service-account.json", json.dumps(issuer.google.service_account()))
        write_secret(folder / "issuers.json", json.dumps(issuer.table(audience_of(service))))
        write_tokens(issuer, folder)
    except OSError as error:
        sys.exit(f"error: {error}")
    loop.add_signal_handler(signal.SIGHUP, issuer.rotate)
    print(f"listening on {issuer.url}", flush=True)
    renewing = asyncio.create_task(renew_tokens(issuer, folder))
    await stop.wait()
    renewing.cancel()
    await issuer.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Issue tokens for development.")
    parser.add_argument(
        "--port", type=addresses.port, default=8080, help="0: any free port (default: %(default)s)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/issuer"),
        help="for the secrets and tokens of clients (default: %(default)s)",
    )
    parser.add_argument(
        "--service", default=SERVICE, help="which tokens are for (default: %(default)s)"
    )
    args = parser.parse_args()
    asyncio.run(serve(f"127.0.0.1:{args.port}", args.folder, args.service))


if __name__ == "__main__":
    main()
