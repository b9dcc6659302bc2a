"""A process that has used gRPC starts a child that makes a call: what works, what hangs.

Run it:

    python -m production.lessons.fork

Each try is a program of its own. It is killed in the end, with all that it has started.
"""

import argparse
import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

import grpc

from production.development import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

TRIES = 3
LONG, SHORT = 30.0, 2.5
"""Seconds after which a child is said to hang: one that should work may be slow."""
ROW = "{:15}{:12}{:25}{:>3}{:>7}{:>7}{:>6}"
OFF = {"GRPC_ENABLE_FORK_SUPPORT": "0"}
kept: list[Any] = []
"""Channels that stay open, and the event loop."""


def call(address: str, timeout: float) -> None:
    """A call by a new channel."""
    kept.append(grpc.insecure_channel(address))
    EchoServiceStub(kept[-1]).UnaryEcho(EchoRequest(), timeout)


def call_in_a_thread(address: str, timeout: float) -> None:
    """A call, and then one after the other in a thread."""
    call(address, timeout)
    stub = EchoServiceStub(kept[-1])

    def go_on() -> None:
        while True:
            stub.UnaryEcho(EchoRequest(), timeout)

    threading.Thread(target=go_on, daemon=True).start()


def call_asyncio(address: str, timeout: float) -> None:
    """A call by a new channel of grpc.aio, in a new event loop."""

    async def call() -> None:
        kept.append(grpc.aio.insecure_channel(address))
        await kept[-1].unary_unary("/protos.echo.v1.EchoService/UnaryEcho")(b"", timeout=timeout)

    kept.append(asyncio.new_event_loop())
    kept[-1].run_until_complete(call())


# Parent, start method, child; the same for Python; when it hangs; the environment.
ROWS: list[tuple[tuple[str, str, str], Any, Any, float, dict[str, str]]] = [
    (("only imported", "fork", "a call"), None, call, LONG, {}),
    (("a call", "spawn", "a call"), call, call, LONG, {}),
    (("a call", "forkserver", "a call"), call, call, LONG, {}),
    (("a call", "fork", "a call"), call, call, LONG, {}),
    (("calls go on", "fork", "a call"), call_in_a_thread, call, SHORT, {}),
    (("a call", "fork", "a call, fork support off"), call, call, SHORT, OFF),
    (("grpc.aio", "fork", "a call by grpc.aio"), call_asyncio, call_asyncio, SHORT, {}),
]


def attempt(row: int, address: str) -> None:
    """One try: does the parent's part, starts the child, and prints how it has ended."""
    (_, method, _), parent, child, limit, _ = ROWS[row]
    if parent:
        parent(address, LONG)
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=child, args=(address, limit / 2.5))
    process.start()
    process.join(limit)
    code = process.exitcode
    print(
        "hang" if code is None else "crash" if code < 0 else "error" if code else "OK", flush=True
    )
    process.kill()
    os._exit(0)  # An ordinary exit might hang as well.


def start(row: int, address: str, folder: str, stack: ExitStack) -> "subprocess.Popen[str]":
    """Starts a try, which is killed with all its children when the stack ends.

    folder is for temporary files: what is killed leaves them.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "production.lessons.fork", "--try", str(row), address],
        env=os.environ | ROWS[row][4] | {"TMPDIR": folder},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    stack.enter_context(process)
    stack.callback(kill)
    return process


def end(process: "subprocess.Popen[str]") -> str:
    """How the child of a try has ended."""
    try:
        return process.communicate(timeout=3 * LONG)[0].strip()
    except subprocess.TimeoutExpired:
        return "hang"


def show() -> None:
    """Prints for each row how its tries have ended."""
    server, port = echo_server.start("127.0.0.1:0", report=lambda _: None)
    address = f"127.0.0.1:{port}"
    with ExitStack() as stack:
        stack.callback(lambda: server.stop(None).wait())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        tries = [
            [start(row, address, folder, stack) for _ in range(TRIES)] for row in range(len(ROWS))
        ]
        print(ROW.format("the parent", "the child", "", "OK", "error", "crash", "hang"))
        for (title, *_), processes in zip(ROWS, tries, strict=True):
            ends = Counter(end(process) for process in processes)
            print(ROW.format(*title, *(ends[how] for how in ("OK", "error", "crash", "hang"))))


def main() -> None:
    parser = argparse.ArgumentParser(description="Show what a fork does to gRPC.")
    parser.add_argument("--try", nargs=2, dest="attempt", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attempt:
        attempt(int(args.attempt[0]), args.attempt[1])
    show()


if __name__ == "__main__":
    main()
