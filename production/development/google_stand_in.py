"""Stands in for Google's identity provider, and for one of its service accounts."""

import secrets
import time
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from production.development.signing_keys import SigningKeys, make_key, public_jwk
from production.development.token_endpoint import answer, refuse

LIFETIME_S = 3_600
ROBOT_ID = "100000000000000000001"
EMAIL = "robot@development.iam.gserviceaccount.com"
TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address.
"""google-auth names this audience in its assertions, wherever it sends them."""
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class GoogleStandIn:
    """Endpoints below /google of a server at url, which is set when the server has started."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = SigningKeys("RS256")
        self._robot_kid, self._robot_key = secrets.token_hex(20), make_key("RS256")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/google/.well-known/openid-configuration", self._discovery),
            web.get("/google/certs", self._certs),
            web.post("/google/token", self._token),
            web.get(f"/google/jwk/{EMAIL}", self._robot_jwk),
        ]

    def service_account(self) -> dict[str, str]:
        """Returns the content of a key file, as Google makes it for a service account."""
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

    def table(self, audience: str, scope: str) -> list[dict[str, Any]]:
        """Returns the issuers of a server that trusts it with a scope."""
        common = {
            "audience": audience,
            "algorithms": ["RS256"],
            "types": ["JWT"],
            "requires_nbf": False,
            "scopes": [scope],
        }
        return [
            {
                "issuer": f"{self.url}/google",
                "jwks": f"{self.url}/google/certs",
                "subjects": [ROBOT_ID],
                **common,
            },
            {
                "issuer": EMAIL,
                "jwks": f"{self.url}/google/jwk/{EMAIL}",
                "subjects": [EMAIL],
                **common,
            },
        ]

    async def _discovery(self, _request: web.Request) -> web.Response:
        google = f"{self.url}/google"
        return web.json_response({"issuer": google, "jwks_uri": f"{google}/certs"})

    async def _certs(self, _request: web.Request) -> web.Response:
        return web.json_response(self.keys.published())

    async def _robot_jwk(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [public_jwk(self._robot_kid, self._robot_key, "RS256")]})

    async def _token(self, request: web.Request) -> web.Response:
        """Returns an ID token for an assertion with target_audience, else an access token."""
        form = await request.post()
        if form.get("grant_type") != JWT_BEARER:
            return refuse("unsupported_grant_type")
        try:
            claims = jwt.decode(
                str(form.get("assertion")),
                self._robot_key.public_key(),
                algorithms=["RS256"],
                audience=TOKEN_URL,
                issuer=EMAIL,
                options={"require": ["iss", "aud", "iat", "exp"]},
            )
        except jwt.PyJWTError:
            return refuse("invalid_grant")
        if "target_audience" in claims:
            return answer(LIFETIME_S, id_token=self.id_token(str(claims["target_audience"])))
        # Opaque, as Google's are: only Google itself can resolve it.
        return answer(LIFETIME_S, access_token="ya29." + secrets.token_urlsafe(64))

    def id_token(self, audience: str, **changes: Any) -> str:
        """Returns an ID token such as Google makes for its service account.

        changes are to its claims; None leaves one out.
        """
        now = int(time.time())
        claims = {
            "iss": f"{self.url}/google",
            "sub": ROBOT_ID,
            "aud": audience,
            "azp": EMAIL,
            "email": EMAIL,
            "email_verified": True,
            "iat": now,
            "exp": now + LIFETIME_S,
        } | changes
        return self.keys.sign(
            "JWT", {name: value for name, value in claims.items() if value is not None}
        )
