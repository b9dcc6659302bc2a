"""Measures ways to serve with kinds of work: calls per second, latency and memory.

Run it:

    python -m scaling.concurrency.lab

It takes about a minute, and writes its results to build/concurrency.json.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psutil

from production.development.child import server
from scaling.concurrency.lab_server import WORK

CALLERS = 64
CHANNELS = 16
"""Several for each process: the kernel spreads connections over them, not calls."""
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
RESULTS = Path("build/concurrency.json")


class Way(NamedTuple):
    """A way to serve: an argument of lab_server, and the number of processes."""

    title: str
    server: str
    processes: int = 1
    flags: tuple[str, ...] = ()
    """Further arguments of lab_server."""


WAYS = [
    Way("1 thread", "threads-1"),
    Way("10 threads", "threads-10"),
    Way("64 threads", "threads-64"),
    Way("asyncio, awaits", "asyncio-awaits"),
    Way("asyncio, blocks", "asyncio-blocks"),
    Way("asyncio, blocks in a pool", "asyncio-in-pool"),
    Way("2 processes, 10 threads each", "threads-10", 2),
    Way("2 processes, asyncio in a pool", "asyncio-in-pool", 2),
]


class Seen(NamedTuple):
    """The measurement of one way."""

    rate: float
    """Calls per second."""
    p50_ms: float
    p99_ms: float
    memory_mib: float
    """Of all its processes."""


def cases() -> Iterator[tuple[str, Way]]:
    """Yields each kind of work with each way; only work that waits can be awaited."""
    for work in WORK:
        for way in WAYS:
            if work == "waits" or way.server != "asyncio-awaits":
                yield work, way


@contextmanager
def serving(way: Way, work: str) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Runs the servers of a way for a block; gives their address and their processes."""
    with ExitStack() as stack:
        processes, port = [], "0"
        for _ in range(way.processes):
            command = [sys.executable, "-m", "scaling.concurrency.lab_server", way.server, work]
            process, address = stack.enter_context(server([*command, *way.flags, f"--port={port}"]))
            port = address.rpartition(":")[2]
            processes.append(psutil.Process(process.pid))
        yield address, processes


async def load(address: str, seconds: float) -> tuple[list[float], float]:
    """Keeps all callers busy; returns the seconds of each call, and of the whole."""
    took: list[float] = []
    async with AsyncExitStack() as stack:
        methods: list[Any] = []
        for _ in range(CHANNELS):
            channel = grpc.aio.insecure_channel(address, OWN_CONNECTION)
            await stack.enter_async_context(channel)
            methods.append(channel.unary_unary("/protos.echo.v1.EchoService/UnaryEcho"))

        async def call(method: Any) -> None:
            while (started := time.perf_counter()) < ends:
                await method(b"", timeout=60)
                took.append(time.perf_counter() - started)

        await asyncio.gather(*(method(b"", timeout=60) for method in methods))  # Connects.
        begins = time.perf_counter()
        ends = begins + seconds
        await asyncio.gather(*(call(methods[number % CHANNELS]) for number in range(CALLERS)))
        return took, time.perf_counter() - begins


def measure(work: str, way: Way, seconds: float) -> Seen:
    """Measures a kind of work with a way. Raises RuntimeError, grpc.aio.AioRpcError."""
    with serving(way, work) as (address, processes):
        took, elapsed = asyncio.run(load(address, seconds))
        memory = sum(process.memory_info().rss for process in processes)
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return Seen(len(took) / elapsed, cuts[49] * 1000, cuts[98] * 1000, memory / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the ways to serve.")
    parser.add_argument("--seconds", type=float, default=2, help="of each case (default: 2)")
    parser.add_argument("--work", choices=WORK, action="append", help="this kind only")
    args = parser.parse_args()
    seen: dict[str, dict[str, Seen]] = {}
    try:
        for work, way in cases():
            if args.work and work not in args.work:
                continue
            if work not in seen:
                print(f"{work:32}calls/s   p50 ms   p99 ms   MiB", flush=True)
            found = measure(work, way, args.seconds)
            seen.setdefault(work, {})[way.title] = found
            figures = f"{found.rate:7,.0f} {found.p50_ms:8.0f} {found.p99_ms:8.0f}"
            print(f"  {way.title:30}{figures} {found.memory_mib:5.0f}", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except (RuntimeError, grpc.aio.AioRpcError) as error:
        sys.exit(f"error: {error}")
    RESULTS.parent.mkdir(exist_ok=True)
    each = {work: {title: s._asdict() for title, s in ways.items()} for work, ways in seen.items()}
    RESULTS.write_text(json.dumps(each, indent=1))


if __name__ == "__main__":
    main()
