"""A token from an identity provider grants access to the service, within its scopes.

Run it against an identity provider and a server that trusts its tokens:

    make certs
    python -m production.development.issuer --port 8080
    CONTACTS_ADDRESS=127.0.0.1:50051 CONTACTS_ISSUERS="$(cat build/issuer/issuers.json)" \
        python -m production.contacts_server
    python -m production.lessons.bearer_token --issuer http://127.0.0.1:8080
"""

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import requests

from production.calling import addresses
from production.calling.channel_credentials import channel_credentials
from production.v1.contacts_pb2 import Contact, CreateContactRequest, ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person

AUDIENCE = "https://contacts.example.com"


def fetch(issuer: str, client: str, secret: str) -> str:
    """A new token for a client, by the client credentials grant (RFC 6749, 4.4)."""
    form = {"grant_type": "client_credentials", "audience": AUDIENCE}
    answer = requests.post(f"{issuer}/token", data=form, auth=(client, secret), timeout=10)
    answer.raise_for_status()
    return str(answer.json()["access_token"])


def claims(token: str) -> dict[str, object]:
    """What a token says, to whoever holds it. This verifies nothing."""
    content = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(content + "==")))


def outcomes(address: str, ca: Path, token: str) -> str:
    """How a list and a create end for the holder of a token."""
    credentials = grpc.composite_channel_credentials(
        channel_credentials(ca), grpc.access_token_call_credentials(token)
    )
    ended = []
    with grpc.secure_channel(address, credentials) as channel:
        stub = ContactServiceStub(channel)
        contact = Contact(person=Person(name="Ada"))
        calls: list[tuple[Any, Any]] = [
            (stub.ListContacts, ListContactsRequest()),
            (stub.CreateContact, CreateContactRequest(contact=contact)),
        ]
        for method, request in calls:
            try:
                method(request, timeout=10)
                ended.append("OK")
            except grpc.RpcError as error:
                ended.append(error.code().name)
    return "list {}, create {}".format(*ended)


def main() -> None:
    parser = argparse.ArgumentParser(description="Show what tokens open.")
    parser.add_argument(
        "--address", type=addresses.target, default="localhost:50051", help="HOST:PORT"
    )
    parser.add_argument("--issuer", default="http://127.0.0.1:8080", help="the identity provider")
    parser.add_argument("--clients", type=Path, default="build/issuer/clients.json")
    parser.add_argument("--ca", type=Path, default="build/certs/ca.pem")
    args = parser.parse_args()
    try:
        for client, secret in json.loads(args.clients.read_text()).items():
            token = fetch(args.issuer, client, secret)
            said = {name: claims(token)[name] for name in ("sub", "aud", "scope")}
            print(f"{client}: {json.dumps(said)}")
            print(f"  as it is: {outcomes(args.address, args.ca, token)}")
            forged = token[:-8] + "AAAAAAAA"
            print(f"  forged:   {outcomes(args.address, args.ca, forged)}")
    except (OSError, requests.RequestException) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
