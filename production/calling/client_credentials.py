"""Fetches tokens by the client-credentials grant (RFC 6749, 4.4).

By the standard library: all that is needed is one POST, with limits. It respects `https_proxy`, and
finds a private authority by `SSL_CERT_FILE`.
"""

import base64
import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote_plus, urlencode, urlsplit

import grpc

from production.calling.addresses import Address
from production.calling.channel_credentials import MAX_TOKEN_BYTES, read_secret_line
from production.calling.errors import RefusedError

TIMEOUT_S = 5.0
"""For connecting and for each wait for bytes; twice that for the whole answer."""
MAX_ANSWER_BYTES = 64 * 1024
EARLY_S = 30.0
"""A token is renewed so long before it expires, or in the last quarter of a short life."""
DEFAULT_LIFETIME_S = 60
"""Of a token without expires_in, which is only recommended (RFC 6749, 5.1)."""
COOLDOWN_S, REFUSED_COOLDOWN_S = 1.0, 10.0
"""After a fetch has failed, calls fail alike for so long. A wrong secret that is sent too often may
lock a client out."""
TRY_AGAIN = {408, 429}
"""The statuses of 400 to 499 that are not about what we have sent."""

log = logging.getLogger(__name__)


class Token(NamedTuple):
    """A token; the times are those of time.monotonic()."""

    value: str
    renew: float
    expires: float


class ClientCredentials(grpc.AuthMetadataPlugin):
    """Sends a bearer token that it fetches, and fetches again before it expires.

    One fetch runs at a time, in a thread of its own: gRPC's is never blocked. Calls that wait for a
    token end at their own deadline. If a fetch fails, the last token is sent as long as it lives;
    then calls fail with UNAUTHENTICATED if the endpoint refuses the client, else with UNAVAILABLE.
    """

    def __init__(
        self,
        endpoint: str,
        client_id: str,
        secret_file: Path,
        *,
        scope: str = "",
        audience: str = "",
    ) -> None:
        """scope and audience are what some providers require, to know for which service it is.

        Reads the secret now, and again for each fetch. Raises OSError if it cannot be read,
        ValueError if it is not one line or if the endpoint is neither https nor on this machine.
        """
        _check(endpoint)
        read_secret_line(secret_file)
        self._endpoint = endpoint
        self._client_id = client_id
        self._secret_file = secret_file
        wanted = {"grant_type": "client_credentials", "scope": scope, "audience": audience}
        self._form = urlencode({name: value for name, value in wanted.items() if value}).encode()
        self._lock = threading.Lock()
        self._token = Token("", 0, 0)
        self._error: Exception | None = None
        self._next_fetch = 0.0
        self._fetching = False
        self._waiting: list[Callable[..., object]] = []

    def __call__(self, _context: grpc.AuthMetadataContext, callback: Any) -> None:
        """Adds a token to a call, now or when it has come."""
        now = time.monotonic()
        with self._lock:
            if now >= max(self._token.renew, self._next_fetch) and not self._fetching:
                self._fetching = True
                threading.Thread(target=self._fetch, daemon=True).start()
            if now >= self._token.expires and self._fetching:
                self._waiting.append(callback)
                return
            answer = self._answer(now)
        callback(*answer)

    def _answer(self, now: float) -> tuple[tuple[tuple[str, str], ...], Exception | None]:
        """Returns the metadata for a call, or why there is none."""
        if now < self._token.expires:
            return (("authorization", f"Bearer {self._token.value}"),), None
        return (), self._error

    def _fetch(self) -> None:
        """Fetches a token for all calls that wait, and for those that follow."""
        token: Token | None = None
        error: Exception | None = None
        try:
            token = self._request()
        except RefusedError as refused:
            error = refused
        except Exception as failed:  # noqa: BLE001 - whatever the endpoint sends, calls must end.
            why = failed.reason if type(failed) is URLError else failed
            error = OSError(f"no token from {self._endpoint}: {why}")
        now = time.monotonic()
        with self._lock:
            begins_to_fail = bool(error and self._token.value and not self._error)
            self._token = token or self._token
            self._error = error
            cooldown = REFUSED_COOLDOWN_S if isinstance(error, RefusedError) else COOLDOWN_S
            self._next_fetch = now + cooldown if error else 0.0
            self._fetching = False
            waiting, self._waiting = self._waiting, []
            answer = self._answer(now)
        if begins_to_fail:  # Without a first token, the calls themselves tell.
            log.warning("the token cannot be renewed: %s", error)
        for callback in waiting:
            callback(*answer)

    def _request(self) -> Token:
        """Asks for a token. Raises RefusedError; OSError or ValueError if it may work later."""
        secret = read_secret_line(self._secret_file)
        # Each is encoded before they are joined (RFC 6749, 2.3.1).
        login = f"{quote_plus(self._client_id)}:{quote_plus(secret)}".encode()
        headers = {
            "Accept": "application/json",
            "Authorization": f"Basic {base64.b64encode(login).decode()}",
        }
        asked = time.monotonic()
        request = urllib.request.Request(self._endpoint, self._form, headers)  # noqa: S310 - checked.
        try:
            with OPENER.open(request, timeout=TIMEOUT_S) as response:
                return parse(_read(response, asked), asked)
        except HTTPError as error:
            with error:
                if not 400 <= error.code < 500 or error.code in TRY_AGAIN:
                    raise
                why = _reason(_read(error, asked)) or f"HTTP status {error.code}"
            what = f"{self._endpoint} refuses the client {self._client_id!r}: {why}"
            raise RefusedError(what) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirections as the errors that they are here: the secret is for one address."""

    def redirect_request(self, *_: object) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirect)


def parse(answer: bytes, asked: float) -> Token:
    """Returns the token of an answer (RFC 6749, 5.1). Raises ValueError without quoting it."""
    try:
        fields = json.loads(answer)
        value, kind = fields["access_token"], fields["token_type"]
        lifetime = float(fields.get("expires_in", DEFAULT_LIFETIME_S))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("the answer is not a token's") from None
    if not (isinstance(value, str) and value.isascii() and value.isprintable() and value.strip()):
        raise ValueError("the token is not text")
    if len(value) > MAX_TOKEN_BYTES:
        raise ValueError(f"the token has more than {MAX_TOKEN_BYTES:,} bytes")
    if str(kind).lower() != "bearer":
        raise ValueError("the token is not a bearer token")
    if not lifetime > 0:  # Not a number is refused, too.
        raise ValueError("the token has expired")
    return Token(value, asked + lifetime - min(EARLY_S, lifetime / 4), asked + lifetime)


def _check(endpoint: str) -> None:
    """Raises ValueError unless a secret may be sent to this URL."""
    with suppress(ValueError):
        url = urlsplit(endpoint)
        place = Address(url.hostname or "", url.port or 0)
        safe = url.scheme == "https" or (url.scheme == "http" and place.is_loopback)
        if safe and place.host and not url.username and not url.fragment:
            return
    raise ValueError(f"expected a token endpoint, https://…, got {endpoint!r}")


def _read(response: Any, asked: float) -> bytes:
    """Returns a bounded body. Raises OSError, ValueError."""
    body = b""
    while piece := response.read1(MAX_ANSWER_BYTES):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError("the answer is too long")
        if time.monotonic() - asked > 2 * TIMEOUT_S:
            raise TimeoutError("the answer takes too long")
    return body


def _reason(answer: bytes) -> str:
    """Returns the error of an answer (RFC 6749, 5.2) if it is one, such as invalid_client."""
    try:
        error = json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return error if isinstance(error, str) and error.isascii() and error.isprintable() else ""
