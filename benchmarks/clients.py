"""One Python client, one call after the other: how many a second, and how much CPU each costs it.

python -m benchmarks.clients
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import aiohttp
import grpc
import httpx
import requests
from rich import box
from rich.table import Table

from benchmarks import harness
from benchmarks.greetings import MESSAGE, NAME
from benchmarks.harness import BenchmarkError
from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub

CALLS = 500
"""Of each client in a round."""
BASELINE = "grpc"
GRPC_SERVER, REST_SERVER = "pygrpc-native, asyncio", "Starlette, orjson"
"""The fastest of each kind, so that it is the client that limits."""
JSON = {"name": NAME}


class Cost(NamedTuple):
    rate: float
    """Calls per second."""
    cpu_ms: float
    """Milliseconds of the client's CPU time per call."""


def timed(call: Callable[[], str], count: int) -> Cost:
    """The cost of so many calls, one after the other. Raises BenchmarkError for a wrong answer."""
    started, used = time.perf_counter(), time.process_time()
    for _ in range(count):
        if (found := call()) != MESSAGE:
            raise BenchmarkError(f"wrong reply: {found!r}")
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return Cost(count / seconds, cpu / count * 1000)


async def timed_async(call: Callable[[], Awaitable[str]], count: int) -> Cost:
    """As timed, for a client of asyncio."""
    started, used = time.perf_counter(), time.process_time()
    for _ in range(count):
        if (found := await call()) != MESSAGE:
            raise BenchmarkError(f"wrong reply: {found!r}")
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return Cost(count / seconds, cpu / count * 1000)


def by_grpc(address: str, _url: str) -> Cost:
    with grpc.insecure_channel(address) as channel:
        stub, request = GreeterStub(channel), HelloRequest(name=NAME)
        stub.SayHello(request, timeout=30)  # Connects.
        return timed(lambda: str(stub.SayHello(request, timeout=30).message), CALLS)


def by_grpc_aio(address: str, _url: str) -> Cost:
    async def run() -> Cost:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = GreeterStub(channel)

            async def call() -> str:
                reply = await stub.SayHello(HelloRequest(name=NAME), timeout=30)
                return str(reply.message)

            await call()
            return await timed_async(call, CALLS)

    return asyncio.run(run())


def by_requests(_address: str, url: str) -> Cost:
    with requests.Session() as session:
        session.post(url, json=JSON, timeout=30)
        return timed(lambda: str(session.post(url, json=JSON, timeout=30).json()["message"]), CALLS)


def by_httpx(_address: str, url: str) -> Cost:
    with httpx.Client() as client:
        client.post(url, json=JSON)
        return timed(lambda: str(client.post(url, json=JSON).json()["message"]), CALLS)


def by_aiohttp(_address: str, url: str) -> Cost:
    async def run() -> Cost:
        async with aiohttp.ClientSession() as session:

            async def call() -> str:
                async with session.post(url, json=JSON) as answer:
                    # Starlette's bare answer names no type of content.
                    return str((await answer.json(content_type=None))["message"])

            await call()
            return await timed_async(call, CALLS)

    return asyncio.run(run())


CLIENTS: dict[str, Callable[[str, str], Cost]] = {
    BASELINE: by_grpc,
    "grpc.aio": by_grpc_aio,
    "requests": by_requests,
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
}


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """The address of a gRPC server, and the URL of one for REST."""
    with (
        harness.server("benchmarks.hello_server", GRPC_SERVER) as (_, address),
        harness.server("benchmarks.hello_server", REST_SERVER) as (_, rest),
    ):
        yield address, f"http://{rest}/hello"


def table(costs: dict[str, list[Cost]]) -> Table:
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("client", no_wrap=True)
    for heading in ("calls/s", "CPU ms a call", f"× {BASELINE}", "range"):
        result.add_column(heading, justify="right", no_wrap=True)
    for client, each in costs.items():
        rate, cpu = map(statistics.median, zip(*each, strict=True))
        ratio = harness.speed(costs, client)
        row = f"{rate:,.0f}", f"{cpu:.3f}", f"{ratio.median:.2f}"
        result.add_row(client, *row, f"{ratio.lowest:.2f} to {ratio.highest:.2f}")
    return result


def verdict(costs: dict[str, list[Cost]]) -> str:
    """What holds of the claim."""
    best = max(harness.speed(costs, client).median for client in ("requests", "httpx", "aiohttp"))
    holds = harness.judge(1 / best)
    return f"{holds}: gRPC's client is faster, the best for HTTP gives {best:.2f} × its calls"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure Python clients.")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    with (
        harness.ending_clearly(grpc.RpcError, httpx.HTTPError, aiohttp.ClientError),
        servers() as addresses,
    ):
        costs = harness.compare(list(CLIENTS), args.rounds, lambda name: CLIENTS[name](*addresses))
    harness.save(harness.RESULTS / "clients.json", costs)
    print(harness.text(table(costs), verdict(costs)))


if __name__ == "__main__":
    main()
