"""Google's credentials on a gRPC call, and what each of them lets a server verify.

Run it against the local stand-in for Google:

    python -m production.development.issuer --port 8080
    GOOGLE_APPLICATION_CREDENTIALS=build/issuer/service-account.json \
        python -m production.lessons.google_client --audience https://contacts.example.com

A server can verify two of them: a JWT that the service account signs itself, and an ID token that
Google signs. Both name an audience: use the server's name, agreed with whoever runs it. An access
token names none and is opaque: it is for Google's own APIs, and whoever receives one could use it
there. Send it to nobody else; a server that is sent one refuses it.

With a key file from Google the same code talks to Google: the file names its token endpoint. On
Google Cloud no file is needed: Application Default Credentials ask the machine's metadata server.
"""

import argparse
import os
import sys
from typing import Any

import google.auth.jwt
import grpc
import jwt
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.oauth2 import id_token, service_account


class Call(grpc.AuthMetadataContext):
    """What gRPC tells a plugin about a call: everything but the message."""

    service_url = "https://localhost:50051/production.v1.ContactService"
    method_name = "GetContact"


def self_signed(key_file: str, audience: str) -> AuthMetadataPlugin:
    """Signs an hour's token itself: no request to anybody. Needs the private key."""
    credentials = google.auth.jwt.Credentials.from_service_account_file(key_file, audience=audience)
    return AuthMetadataPlugin(credentials, Request())


def id_tokens(audience: str) -> AuthMetadataPlugin:
    """Has Google sign an hour's token, for whomever Application Default Credentials find.

    Blocks until it has the first one: otherwise each of the first calls would fetch its own.
    Raises google.auth.exceptions.GoogleAuthError.
    """
    request = Request()
    credentials = id_token.fetch_id_token_credentials(audience, request)
    credentials.refresh(request)
    return AuthMetadataPlugin(credentials, request)


def channel_credentials(
    server: grpc.ChannelCredentials, plugin: grpc.AuthMetadataPlugin
) -> grpc.ChannelCredentials:
    """For `grpc.secure_channel` and `grpc.aio.secure_channel`; plugin runs in a thread of its own.

    There is no such thing for insecure channels: who listens could use the token.
    """
    return grpc.composite_channel_credentials(server, grpc.metadata_call_credentials(plugin))


def sent(plugin: grpc.AuthMetadataPlugin) -> str:
    """The claims that matter of what a plugin adds to a call."""
    metadata: dict[str, str] = {}
    callback: Any = lambda added, _error: metadata.update(added)  # noqa: E731 - gRPC's is a class.
    plugin(Call(), callback)
    token = metadata["authorization"].removeprefix("Bearer ")
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.DecodeError:
        return f"opaque: {token[:5]}..."
    return " ".join(f"{name}={claims.get(name, '(none)')}" for name in ("aud", "scope"))


def show(key_file: str, audience: str) -> None:
    """Prints the credentials to use, then those that look alike but send something else."""
    account = service_account.Credentials.from_service_account_file(key_file)
    host = audience.removeprefix("https://")
    scoped = account.with_scopes(["contacts.read"])
    on_demand = google.auth.jwt.OnDemandCredentials.from_service_account_file(key_file)
    for name, plugin in {
        "self-signed": self_signed(key_file, audience),
        "ID token": id_tokens(audience),
        "default_host": AuthMetadataPlugin(account, Request(), default_host=host),
        "on demand": AuthMetadataPlugin(on_demand, Request()),
        "scopes and always_use_jwt": AuthMetadataPlugin(
            scoped.with_always_use_jwt_access(True), Request(), default_host=host
        ),
        "scopes": AuthMetadataPlugin(scoped, Request()),
    }.items():
        print(f"{name:27}{sent(plugin)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Show what Google's credentials send.")
    parser.add_argument("--audience", default="https://contacts.example.com")
    args = parser.parse_args()
    key_file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not key_file:
        sys.exit(
            "error: GOOGLE_APPLICATION_CREDENTIALS must name the key file of a service account"
        )
    try:
        show(key_file, args.audience)
    except (GoogleAuthError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
