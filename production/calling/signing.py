"""Signs calls with an API key that never travels.

A client sends `v1.KEY.TIME.NONCE.MAC` as metadata. The MAC (HMAC-SHA256) covers the service, the
method, the time and the nonce, but not the messages, which a client's plugin never sees: TLS must
protect those. A signature is valid for one call, within a minute. If a proxy repeats a call, the
repetition is refused; gRPC's own retries are signed again.
"""

import hmac
import secrets
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from pydantic import Base64UrlBytes, BaseModel, ValidationError


def sign(key: str, secret: bytes, target: str, now: float, nonce: str) -> str:
    """Returns the signature of one call.

    target is the service's audience followed by the method, such as
    https://service/package.Service/Method; now is in Unix seconds.
    """
    signed = f"v1.{key}.{now:.0f}.{nonce}"
    return f"{signed}.{hmac.new(secret, f'{signed}.{target}'.encode(), 'sha256').hexdigest()}"


class SigningPlugin(grpc.AuthMetadataPlugin):
    """Call credentials that sign each call, and each retry of it."""

    def __init__(self, key: str, secret: bytes, audience: str, header: str) -> None:
        """header is the metadata that carries the signature."""
        self._key = key
        self._secret = secret
        self._audience = audience
        self._header = header

    def __call__(self, context: grpc.AuthMetadataContext, callback: Any) -> None:
        """Adds a signature to a call."""
        method = f"{urlsplit(context.service_url).path}/{context.method_name}"
        target = self._audience + method
        nonce = secrets.token_hex(16)
        value = sign(self._key, self._secret, target, time.time(), nonce)
        callback(((self._header, value),), None)


class ClientKey(BaseModel):
    """A client's key file."""

    key: str
    secret: Base64UrlBytes
    audience: str


def load_plugin(file: Path, header: str) -> SigningPlugin:
    """Returns the plugin for a client's key file. Raises OSError, ValueError."""
    try:
        client = ClientKey.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ValueError(f"{file} is not a client key file") from None
    return SigningPlugin(client.key, client.secret, client.audience, header)
