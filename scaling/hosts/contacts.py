"""Chapter 4's service on this host, and a client that writes to it without a pause."""

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from production.contacts_client import ContactsClient, ContactsError
from production.development import child
from production.v1.contacts_pb2 import Contact
from protobuf_demo.addressbook_pb2 import Person
from scaling.hosts.network import tied

SERVER = "production.contacts_server"
ADDRESS = "127.0.0.1:50051"


@contextmanager
def serving(url: str) -> Iterator[None]:
    """Runs the service on a database for a block. Raises RuntimeError if it does not start."""
    command = [sys.executable, "-m", SERVER]
    environment = os.environ | {"CONTACTS_DATABASE": url}
    subprocess.run([*command, "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)
    serve = [*command, "--plaintext", f"--address={ADDRESS}"]
    with child.server(tied(*serve), env=environment):
        yield


class Writer:
    """Creates one contact after the other within a with block, each with an id of its own."""

    def __init__(self, timeout: float) -> None:
        """timeout is in seconds, for each write with its retries."""
        self._timeout = timeout
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._write()))
        self.acknowledged: list[str] = []
        """The ids of the contacts whose creation the service has acknowledged, in their order."""
        self.failed: Counter[str] = Counter()
        """How many writes ended with each code: they may have been carried out, or not."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join()

    async def _write(self) -> None:
        async with ContactsClient(ADDRESS, None) as client:
            number = 0
            while not self._stopped:
                number += 1
                contact_id = f"contact-{number}"
                contact = Contact(person=Person(name=contact_id))
                try:
                    await client.create(contact, contact_id, timeout=self._timeout)
                    self._count(self.acknowledged.append, contact_id)
                except ContactsError as error:
                    self._count(self.failed.update, [error.code.name])

    def _count(self, into: Callable[..., object], what: object) -> None:
        with self._changed:
            into(what)
            self._changed.notify_all()

    def failures(self) -> str:
        """Returns how many writes failed with each code, for a reader."""
        return ", ".join(f"{count} {code}" for code, count in self.failed.items()) or "0"

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition of the counts is true. Raises RuntimeError after 60 s."""
        with self._changed:
            if not self._changed.wait_for(condition, child.START_SECONDS):
                raise RuntimeError(f"nothing is written; failed: {self.failures()}")
