"""Restarts backends of chapter 4's service under load, and counts what each way loses.

Run it:

    python -m scaling.proxies.rolling_restart

Three backends share a database. They are restarted twice: by SIGTERM, so that they drain, and by
SIGKILL. All ways to balance are in front of the same backends at the same time.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import NamedTuple

import grpc

from production.development import certificates
from production.development.child import server
from production.development.programs import AbsentError
from production.v1.contacts_pb2 import ListContactsRequest
from production.v1.contacts_pb2_grpc import ContactServiceStub
from scaling.backend import HOST
from scaling.proxies import ways
from scaling.proxies.ways import PLAIN, Target

CALLERS = 4
"""Of each way."""
READY_SECONDS = 1.5
"""Between two restarts, so that each way notices that a backend is back."""
START_SECONDS = 60


class Loss(NamedTuple):
    """Calls of a way to balance during a round of restarts."""

    calls: int
    lost: Counter[str]
    """By status code."""

    def __str__(self) -> str:
        codes = ", ".join(f"{count} {code}" for code, count in self.lost.items()) or "0"
        return f"{self.calls:6,}  {codes:16}"


class Backend:
    """A server that can be restarted at its port."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._environment = os.environ | {
            "CONTACTS_DATABASE": f"sqlite:///{folder}/contacts.db",
            "CONTACTS_DRAIN_PAUSE": "1",  # Longer than the proxies' checks are apart.
        }
        self._process: subprocess.Popen[str] | None = None
        self._stack = stack
        self.port = 0

    def start(self) -> None:
        """Starts it, at the same port as before. Raises RuntimeError."""
        command = [sys.executable, "-m", "production.contacts_server", "--plaintext"]
        self._process, address = self._stack.enter_context(
            server(
                [*command, f"--address={HOST}:{self.port}"],
                ended_by=signal.SIGKILL,
                env=self._environment,
            )
        )
        self.port = int(address.rpartition(":")[2])

    def drain(self) -> None:
        """Stops it by SIGTERM, which lets it finish the calls in flight."""
        if self._process:
            self._process.terminate()
            self._process.wait(START_SECONDS)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


async def call(channel: grpc.aio.Channel, seen: Counter[str]) -> None:
    """Makes calls without a pause, and counts how they end."""
    stub = ContactServiceStub(channel)
    while True:
        try:
            await stub.ListContacts(ListContactsRequest(page_size=1), timeout=10)
            seen["OK"] += 1
        except grpc.aio.AioRpcError as error:
            seen[error.code().name] += 1
            await asyncio.sleep(0.05)


async def restart_all(backends: list[Backend], *, drained: bool) -> None:
    for backend in backends:
        await asyncio.to_thread(backend.drain if drained else backend.kill)
        await asyncio.to_thread(backend.start)
        await asyncio.sleep(READY_SECONDS)


async def losses(targets: dict[str, Target], backends: list[Backend]) -> list[dict[str, Loss]]:
    """Returns what each way loses when backends drain, and when they are killed."""
    found = []
    async with AsyncExitStack() as stack:
        channels = {
            way: await stack.enter_async_context(ways.channel(target, grpc.aio))
            for way, target in targets.items()
        }
        for drained in (True, False):
            seen: dict[str, Counter[str]] = {way: Counter() for way in channels}
            async with asyncio.TaskGroup() as group:
                calling = [
                    group.create_task(call(channel, seen[way]))
                    for way, channel in channels.items()
                    for _ in range(CALLERS)
                ]
                await restart_all(backends, drained=drained)
                for task in calling:
                    task.cancel()
            calls = {way: each.total() for way, each in seen.items()}
            for each in seen.values():
                del each["OK"]
            found.append({way: Loss(calls[way], each) for way, each in seen.items()})
    return found


def run() -> tuple[dict[str, Loss], dict[str, Loss], dict[str, str]]:
    """Returns losses with and without drain, and the absent ways, with how to install them."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder, absent = Path(temporary), {}
        certificates.make(folder)
        backends = [Backend(stack, folder) for _ in range(3)]
        for backend in backends:
            backend.start()
        addresses = [f"{HOST}:{backend.port}" for backend in backends]
        targets = {}
        for way in PLAIN:
            try:
                targets[way.title] = stack.enter_context(ways.target(way, addresses, folder))
            except AbsentError as error:
                absent[way.title] = str(error)
        drained, killed = asyncio.run(losses(targets, backends))
    return drained, killed, absent


def main() -> None:
    argparse.ArgumentParser(description="Restart backends under load.").parse_args()
    started = time.monotonic()
    try:
        drained, killed, absent = run()
    except KeyboardInterrupt:
        sys.exit(130)
    print("                      drained                 killed")
    print("way                    calls  lost             calls  lost")
    for way in drained:
        print(f"{way:21} {drained[way]}{killed[way]}".rstrip())
    for way, why in absent.items():
        print(f"{way:21} absent: {why}")
    print(f"six restarts in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
