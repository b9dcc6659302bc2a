"""Cuts the line between chapter 4's service and its database: what callers see, and what is lost.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.hosts.partition
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from production.v1.contacts_pb2 import GetContactRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from scaling.hosts import contacts, database
from scaling.hosts.contacts import ADDRESS, Writer
from scaling.hosts.database import Database
from scaling.hosts.network import enter, host

WRITES = 100
"""Acknowledged before the partition."""
WRITE_TIMEOUT_S = 2.0
PARTED_S = 30
"""Longer than the service waits for a silent database, by its tcp_user_timeout."""


class Calls:
    """Calls without retries, to see each as it is."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._health: Any = HealthStub(channel)
        self._contacts = ContactServiceStub(channel)

    def health(self, timeout: float | None) -> str:
        """Returns what the service reports to its load balancer."""
        answer: HealthCheckResponse = self._health.Check(HealthCheckRequest(), timeout=timeout)
        return HealthCheckResponse.ServingStatus.Name(answer.status)

    def get(self, timeout: float | None) -> str:
        """Reads a contact."""
        request = GetContactRequest(name="contacts/contact-1")
        return self._contacts.GetContact(request, timeout=timeout).person.name


def show(title: str, call: Callable[[float | None], str], timeout: float | None = 5.0) -> None:
    """Makes a call; prints how it ended, and after how long."""
    started = time.monotonic()
    try:
        how = call(timeout)
    except grpc.RpcError as error:
        how = f"{error.code().name}: {error.details()}"
    print(f"  {title:30}{time.monotonic() - started:4.0f} s  {how}", flush=True)


def part(calls: Calls, writer: Writer, stored: Database) -> None:
    """Cuts the database off, and lets it come back."""
    writer.wait_for(lambda: len(writer.acknowledged) >= WRITES)
    print("as it is")
    show("read", calls.get)
    stored.host.cut()
    began = time.monotonic()
    print("the database is cut off")
    show("read, deadline 2 s", calls.get, 2.0)
    show("health", calls.health)
    show("read, no deadline", calls.get, None)
    time.sleep(max(0.0, began + PARTED_S - time.monotonic()))
    print(f"the line is back after {time.monotonic() - began:.0f} s")
    stored.host.heal()
    written = len(writer.acknowledged)
    show("read", calls.get, 30.0)
    started = time.monotonic()
    writer.wait_for(lambda: len(writer.acknowledged) > written)
    print(f"  the writer is served again{time.monotonic() - started:7.0f} s")


def play(stack: ExitStack) -> None:
    """Starts a service and its database on two hosts, parts them, and counts."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-")))
    stored = stack.enter_context(database.running(stack.enter_context(host("database")), folder))
    stack.enter_context(contacts.serving(database.url(stored)))
    with Writer(WRITE_TIMEOUT_S) as writer, grpc.insecure_channel(ADDRESS) as channel:
        part(Calls(channel), writer, stored)
    there = {name for (name,) in stored.rows("SELECT contact_id FROM contacts", database.NAME)}
    print("the writer, with a deadline of 2 s for each write")
    print(f"  acknowledged                  {len(writer.acknowledged)}")
    print(f"  of these, lost                {len(set(writer.acknowledged) - there)}")
    print(f"  failed                        {writer.failures()}")
    print(f"  of these, carried out         {len(there - set(writer.acknowledged))}")


def main() -> None:
    argparse.ArgumentParser(description="Part a service and its database.").parse_args()
    enter("scaling.hosts.partition")
    with ExitStack() as stack:
        play(stack)


if __name__ == "__main__":
    main()
