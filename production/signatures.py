"""A scheme of one's own: an API key that never travels, and signs each call instead.

    python -m production.signatures add build/api-keys.json laptop --client build/laptop.json

A client sends `x-contacts-signature: v1.KEY.TIME.NONCE.MAC`. The MAC (HMAC-SHA256) covers the
service, the method, the time and the nonce; not the messages, which a client's plugin never sees.
So TLS must protect them, and a signature is good for one call, within a minute. A proxy that sends
a call twice is refused; gRPC's own retries are signed anew.
"""

import argparse
import hmac
import json
import re
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import grpc
from pydantic import Base64UrlBytes, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import text

from production.authorization import READ, WRITE
from production.database import Database
from production.jwks import parse_json
from production.tokens import RefusedError

SIGNATURE = "x-contacts-signature"
WINDOW_S = 60
"""How far the clocks of client and server may be apart, and how long a nonce is remembered."""
FORM = re.compile(
    r"v1\.(?P<key>[a-z0-9-]{1,40})\.(?P<time>[0-9]{1,12})\.(?P<nonce>[0-9a-f]{32})\.(?P<mac>[0-9a-f]{64})"
)


class ApiKey(BaseModel):
    """What the server knows of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: Annotated[Base64UrlBytes, Field(min_length=32)]
    principal: str = Field(min_length=1)
    """Whose key it is. Who changes keys has two for a while."""
    scopes: frozenset[Literal["contacts.read", "contacts.write"]]


KeyId = Annotated[str, Field(pattern="^[a-z0-9-]{1,40}$")]
Keys = dict[KeyId, ApiKey]


def load_keys(file: Path) -> Keys:
    """The keys in a file, by their ids. Raises OSError, and ValueError with one clear line."""
    if file.stat().st_mode & 0o077:
        raise ValueError(f"{file} holds secrets, and others can read it: chmod 600 {file}")
    try:
        return TypeAdapter(Keys).validate_python(parse_json(file.read_bytes()))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{file}: {place}: {first['msg']}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def sign(key: str, secret: bytes, target: str, now: float, nonce: str) -> str:
    """The signature of one call in Unix seconds; target is the service's audience and the method,
    https://service/package.Service/Method."""
    signed = f"v1.{key}.{now:.0f}.{nonce}"
    return f"{signed}.{hmac.new(secret, f'{signed}.{target}'.encode(), 'sha256').hexdigest()}"


class SigningPlugin(grpc.AuthMetadataPlugin):
    """Call credentials that sign each call, and each retry of it."""

    def __init__(self, key: str, secret: bytes, audience: str) -> None:
        self._key = key
        self._secret = secret
        self._audience = audience

    def __call__(self, context: grpc.AuthMetadataContext, callback: Any) -> None:
        """Adds a signature to a call."""
        method = f"{urlsplit(context.service_url).path}/{context.method_name}"
        target = self._audience + method
        nonce = secrets.token_hex(16)
        value = sign(self._key, self._secret, target, time.time(), nonce)
        callback(((SIGNATURE, value),), None)


class ClientKey(BaseModel):
    """What a client knows of its key."""

    key: KeyId
    secret: Base64UrlBytes
    audience: str


def load_plugin(file: Path) -> SigningPlugin:
    """The plugin for a client's key file. Raises OSError, ValueError."""
    try:
        client = ClientKey.model_validate_json(file.read_bytes())
    except ValidationError:
        raise ValueError(f"{file} is no file of a key") from None
    return SigningPlugin(client.key, client.secret, client.audience)


class Verified(NamedTuple):
    """A signature that is right, whose nonce is yet to be used."""

    key: str
    nonce: str
    api_key: ApiKey


def verify(signature: str, target: str, keys: Keys, now: float) -> Verified:
    """Who has signed a call to the target. Raises RefusedError."""
    form = FORM.fullmatch(signature)
    api_key = keys.get(form["key"]) if form else None
    if not form or not api_key:
        raise RefusedError("signature: form or key")
    if abs(int(form["time"]) - now) > WINDOW_S:
        raise RefusedError("signature: time")
    wanted = sign(form["key"], api_key.secret, target, int(form["time"]), form["nonce"])
    if not hmac.compare_digest(wanted, signature):
        raise RefusedError("signature: not of this key, service or method")
    return Verified(form["key"], form["nonce"], api_key)


def use_nonce(database: Database, verified: Verified, now: float) -> None:
    """Uses the nonce up, for all processes and for good. Raises RefusedError when it was used.

    Only after the signature is right: strangers cannot fill the table.
    """
    with database.write() as connection:
        connection.execute(text("DELETE FROM nonces WHERE expires < :now"), {"now": int(now)})
        used = connection.execute(
            text("INSERT INTO nonces VALUES (:key, :nonce, :expires) ON CONFLICT DO NOTHING"),
            {
                "key": verified.key,
                "nonce": verified.nonce,
                "expires": int(now) + 2 * WINDOW_S + 1,  # The signature's time may be ahead.
            },
        )
        if used.rowcount != 1:
            raise RefusedError("signature: sent before")


def add_key(
    file: Path, key: str, principal: str, scopes: list[str], audience: str, client: Path
) -> None:
    """Adds a new key to the server's file, and writes what the client needs to a file of its own.

    Raises OSError, and ValueError when the key is there already.
    """
    content = json.loads(file.read_bytes()) if file.exists() else {}
    if key in content:
        raise ValueError(f"{file} has a key {key} already")
    secret = secrets.token_urlsafe(33)
    content[key] = {"secret": secret, "principal": principal, "scopes": scopes}
    _write_secret(client, {"key": key, "secret": secret, "audience": audience})
    _write_secret(file, content)


def _write_secret(file: Path, content: object) -> None:
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as opened:  # Mode 0600.
        json.dump(content, opened, indent=1)
    Path(opened.name).replace(file)


def _key_id(value: str) -> str:
    if not re.fullmatch("[a-z0-9-]{1,40}", value):
        raise argparse.ArgumentTypeError("must be 1 to 40 lower-case letters, digits and hyphens")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="Keep the keys that sign calls.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("add", help="make a key, for the server and for a client")
    command.add_argument("file", type=Path, help="the server's keys")
    command.add_argument("key", type=_key_id, help="a name for the key")
    command.add_argument("--client", type=Path, required=True, help="the file the client needs")
    command.add_argument("--principal", help="whose key it is (default: the key's name)")
    command.add_argument(
        "--audience",
        default="https://contacts.example.com",
        help="the server's CONTACTS_AUDIENCE (default: %(default)s)",
    )
    command.add_argument("--scopes", nargs="+", choices=[READ, WRITE], default=[READ, WRITE])
    args = parser.parse_args()
    try:
        principal = args.principal or args.key
        add_key(args.file, args.key, principal, args.scopes, args.audience, args.client)
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"added {args.key} to {args.file}; the client's part is in {args.client}")


if __name__ == "__main__":
    main()
