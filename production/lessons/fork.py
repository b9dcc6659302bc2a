"""Fork: what a child process can still do with gRPC that its parent has used.

python -m production.lessons.fork
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

import grpc

from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

TRIES = 3
LIMIT_S = 6
"""A child that has not answered so long after the fork is stuck."""


def ask(address: str) -> None:
    """One call, on a channel of its own."""
    with grpc.insecure_channel(address) as channel:
        EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=LIMIT_S)
    print("answered", flush=True)


async def async_ask(address: str) -> None:
    """The same, in asyncio."""
    async with grpc.aio.insecure_channel(address) as channel:
        await EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=LIMIT_S)
    print("answered", flush=True)


def in_child(work: Callable[[], None]) -> None:
    """Forks, works in the child, waits for it."""
    print("forks", flush=True)
    if (child := os.fork()) == 0:
        work()
        os._exit(0)
    os.waitpid(child, 0)


def sync(address: str) -> None:
    """The parent has a channel that it has used."""
    with grpc.insecure_channel(address) as channel:
        EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=30)
        in_child(lambda: ask(address))


def asyncio_(address: str) -> None:
    """The parent has an asyncio channel that it has used, and so shall the child."""

    async def parent() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            await EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=30)
            in_child(lambda: asyncio.run(async_ask(address)))

    asyncio.run(parent())


def first(address: str) -> None:
    """The fork comes before any gRPC."""
    in_child(lambda: asyncio.run(async_ask(address)))


def spawn(address: str) -> None:
    """The child is a new interpreter, as in all but the first of multiprocessing's ways."""
    with grpc.insecure_channel(address) as channel:
        EchoServiceStub(channel).UnaryEcho(EchoRequest(), timeout=30)
        print("forks", flush=True)
        child = get_context("spawn").Process(target=ask, args=(address,))
        child.start()
        child.join()


CASES = {
    "sync": (sync, "1"),
    "sync, fork support off": (sync, "0"),
    "asyncio": (asyncio_, "1"),
    "asyncio, forked first": (first, "1"),
    "spawn": (spawn, "1"),
}


def answered(case: str, address: str) -> bool:
    """Whether a child gets an answer. In a process of its own, which may be stuck."""
    with subprocess.Popen(  # noqa: S603 - the command is our own.
        [sys.executable, "-m", "production.lessons.fork", "--case", case, "--address", address],
        env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": CASES[case][1]},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout  # noqa: S101 - for the type checker.
        process.stdout.readline()
        try:
            return "answered" in process.communicate(timeout=LIMIT_S)[0]
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def show() -> None:
    """Tries each case a few times, and counts the answers."""
    server = [sys.executable, "-m", "production.lessons.echo_server", "--address", "127.0.0.1:0"]
    with (
        subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process,  # noqa: S603
        ThreadPoolExecutor(TRIES) as threads,
    ):
        assert process.stdout  # noqa: S101 - for the type checker.
        address = process.stdout.readline().split()[-1]
        for case in CASES:
            count = sum(threads.map(answered, [case] * TRIES, [address] * TRIES))
            print(f"{case:24}{count} of {TRIES} children were answered", flush=True)
        process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description="Show what works after a fork.")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        CASES[args.case][0](args.address)
    else:
        show()


if __name__ == "__main__":
    main()
