"""Makes calls that break rules of the contract, and prints what comes back.

Run it:

    python -m production.lessons.rules.mistakes
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status
from protovalidate import CompilationError, EvaluationError

from production.lessons.rules.checks import Rules, try_rules
from production.lessons.rules.v1 import contacts_pb2, contacts_pb2_grpc
from production.lessons.rules.v1.contacts_pb2 import (
    Contact,
    CreateContactRequest,
    CreateContactResponse,
    ImportContactsRequest,
    ImportContactsResponse,
    Person,
)

SERVICE = contacts_pb2.DESCRIPTOR.services_by_name["ContactService"]


class Contacts(contacts_pb2_grpc.ContactServiceServicer):
    """Counts what passes the rules. It has no checks of its own."""

    def CreateContact(
        self, request: CreateContactRequest, context: grpc.ServicerContext
    ) -> CreateContactResponse:
        return CreateContactResponse()

    def ImportContacts(
        self, request_iterator: Iterator[ImportContactsRequest], context: grpc.ServicerContext
    ) -> ImportContactsResponse:
        return ImportContactsResponse(contact_count=sum(len(r.people) for r in request_iterator))


def start(address: str) -> tuple[grpc.Server, int]:
    """Starts the server. Returns it and its port.

    Raises CompilationError or EvaluationError if a rule is wrong.
    """
    try_rules(SERVICE)
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[Rules()])
    contacts_pb2_grpc.add_ContactServiceServicer_to_server(Contacts(), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def create(*numbers: str, name: str = "Ada", **fields: str) -> CreateContactRequest:
    """Builds a request for a contact with these phone numbers."""
    phones = [Person.PhoneNumber(number=number) for number in numbers]
    contact = Contact(person=Person(name=name, phones=phones))
    return CreateContactRequest(contact=contact, **fields)


CREATES = {
    "all is right": create("+44 20 7946 0000", contact_id="ada-lovelace"),
    "three mistakes": create("", name="\u3000", contact_id="Ada"),
    "no contact": CreateContactRequest(),
    "3,000 phones, all empty": create(*[""] * 3000),
}
IMPORT = [
    ImportContactsRequest(people=[Person(name=name) for name in names])
    for names in (["Ada", "Grace"], ["Edsger", ""], ["Alan"])
]


def show(title: str, call: Any, request: Any) -> None:
    """Makes a call and prints its status, and its details' first violations."""
    try:
        call(request, timeout=30)
        print(f"{title}: OK")
    except grpc.RpcError as error:
        failed: Any = error  # It is a call, too.
        print(f"{title}: {failed.code().name}: {failed.details()}")
        status, detail = rpc_status.from_call(failed), BadRequest()
        if status and status.details[0].Unpack(detail):
            for violation in detail.field_violations[:3]:
                print(f"  {violation.field}: {violation.description}")


def main() -> None:
    argparse.ArgumentParser(description="Show rules of a contract at work.").parse_args()
    try:
        server, port = start("127.0.0.1:0")
    except (CompilationError, EvaluationError) as error:
        sys.exit(f"error: {error}")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = contacts_pb2_grpc.ContactServiceStub(channel)
        for title, request in CREATES.items():
            show(title, stub.CreateContact, request)
        show("a stream", stub.ImportContacts, iter(IMPORT))
    server.stop(None).wait()


if __name__ == "__main__":
    main()
