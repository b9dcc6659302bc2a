"""A call that is signed by a key of ours, and the same signature sent again.

Run it against a server that knows the key:

    make certs
    python -m production.contacts.api_keys add build/api-keys.json laptop --client build/laptop.json
    CONTACTS_ADDRESS=127.0.0.1:50051 CONTACTS_API_KEYS=build/api-keys.json \
        python -m production.contacts_server
    python -m production.lessons.signing --address localhost:50051
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import grpc

from production.calling import addresses
from production.calling.channel_credentials import channel_credentials
from production.calling.signing import load_plugin
from production.contacts_client import SIGNATURE
from production.v1.contacts_pb2 import GetContactRequest, ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub


class Listening(grpc.AuthMetadataPlugin):
    """Another plugin, and what it has sent: an eavesdropper inside of the TLS channel."""

    def __init__(self, plugin: grpc.AuthMetadataPlugin) -> None:
        self.heard: list[tuple[str, str]] = []
        self._plugin = plugin

    def __call__(self, context: grpc.AuthMetadataContext, callback: Any) -> None:
        def listen(metadata: Any, error: Exception | None) -> None:
            self.heard.extend(metadata)
            callback(metadata, error)

        self._plugin(context, listen)  # type: ignore[arg-type]  # gRPC's type is a class.


def outcome(method: Any, request: Any, **options: Any) -> str:
    """The status code of a call."""
    try:
        method(request, timeout=10, **options)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def show(address: str, ca: Path, key: Path) -> None:
    """Signs two calls, then sends what was heard of them again."""
    listening = Listening(load_plugin(key, SIGNATURE))
    with grpc.secure_channel(address, channel_credentials(ca, None, None, listening)) as channel:
        stub = ContactServiceStub(channel)
        for turn in ("first", "second"):
            print(
                f"{turn + ' call, signed:':23}{outcome(stub.ListContacts, ListContactsRequest())}"
            )
    signature = listening.heard[0]
    print(f"the first signature:   {signature[1][:28]}...")
    with grpc.secure_channel(address, channel_credentials(ca)) as channel:
        stub = ContactServiceStub(channel)
        again = {"metadata": [signature]}
        print(
            f"the same again:        {outcome(stub.ListContacts, ListContactsRequest(), **again)}"
        )
        print(f"for another method:    {outcome(stub.GetContact, GetContactRequest(), **again)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Show a signed call and its replay.")
    parser.add_argument(
        "--address", type=addresses.target, default="localhost:50051", help="HOST:PORT"
    )
    parser.add_argument("--ca", type=Path, default="build/certs/ca.pem")
    parser.add_argument("--key", type=Path, default="build/laptop.json", help="the client's key")
    args = parser.parse_args()
    try:
        show(args.address, args.ca, args.key)
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
