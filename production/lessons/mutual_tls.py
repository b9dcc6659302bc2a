"""Client certificates and their permissions: the server maps the only URI in each to a role.

Run it against a server that asks for certificates:

    make certs
    CONTACTS_ADDRESS=127.0.0.1:50051 CONTACTS_CLIENT_CA=build/certs/ca.pem \
        python -m production.contacts_server
    GRPC_VERBOSITY=NONE python -m production.lessons.mutual_tls --address localhost:50051
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import grpc

from production.calling import addresses
from production.calling.channel_credentials import channel_credentials
from production.v1.contacts_pb2 import Contact, CreateContactRequest, ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from protobuf_demo.addressbook_pb2 import Person

CERTIFICATES = ["operator", "auditor", "gateway", "operator-for-servers", "foreign-operator"]


def outcomes(address: str, folder: Path, name: str | None) -> list[str]:
    """How a list and a create end for the holder of a certificate."""
    own = (folder / f"{name}.pem", folder / f"{name}.key") if name else (None, None)
    with grpc.secure_channel(address, channel_credentials(folder / "ca.pem", *own)) as channel:
        stub = ContactServiceStub(channel)
        contact = Contact(person=Person(name="Ada"))
        return [
            outcome(lambda: stub.ListContacts(ListContactsRequest(), timeout=10)),
            outcome(lambda: stub.CreateContact(CreateContactRequest(contact=contact), timeout=10)),
        ]


def outcome(call: Callable[[], object]) -> str:
    """The status code of a call."""
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def main() -> None:
    parser = argparse.ArgumentParser(description="Show what certificates may do.")
    parser.add_argument(
        "--address", type=addresses.target, default="localhost:50051", help="HOST:PORT"
    )
    parser.add_argument("--certs", type=Path, default="build/certs", help="made by make certs")
    args = parser.parse_args()
    print(f"{'certificate':22}{'list':19}create")
    try:
        for name in (*CERTIFICATES, None):
            listed, created = outcomes(args.address, args.certs, name)
            print(f"{name or '(none)':22}{listed:19}{created}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
