"""Compares Python clients that make one call after the other: their rate and their CPU time.

Run it:

    python -m benchmarks clients
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import aiohttp
import grpc
import httpx
import requests

from benchmarks import harness, tables
from benchmarks.harness import BenchmarkError
from benchmarks.loads.greetings import MESSAGE, NAME
from benchmarks.registry import Claim, Settings
from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub

CALLS = 500
"""Each client makes this many in a round."""
BASELINE = "grpc"
GRPC_SERVER, REST_SERVER = "pygrpc-native, asyncio", "Starlette, orjson"
"""The fastest of each kind, so that the client is the limit."""
JSON = {"name": NAME}


class ClientRun(NamedTuple):
    rate: float
    """Calls per second."""
    cpu_ms: float
    """Milliseconds of the client's CPU time per call."""


def timed(call: Callable[[], str], count: int) -> ClientRun:
    """Makes count calls, one after the other. Raises BenchmarkError for a wrong reply."""
    started, used = time.perf_counter(), time.process_time()
    for _ in range(count):
        if (reply := call()) != MESSAGE:
            raise BenchmarkError(f"wrong reply: {reply!r}")
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return ClientRun(count / seconds, cpu / count * 1000)


async def timed_async(call: Callable[[], Awaitable[str]], count: int) -> ClientRun:
    """Does the same as timed for a client on asyncio."""
    started, used = time.perf_counter(), time.process_time()
    for _ in range(count):
        if (reply := await call()) != MESSAGE:
            raise BenchmarkError(f"wrong reply: {reply!r}")
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return ClientRun(count / seconds, cpu / count * 1000)


def by_grpc(address: str, _url: str) -> ClientRun:
    with grpc.insecure_channel(address) as channel:
        stub, request = GreeterStub(channel), HelloRequest(name=NAME)
        stub.SayHello(request, timeout=30)  # Connects.
        return timed(lambda: str(stub.SayHello(request, timeout=30).message), CALLS)


def by_grpc_aio(address: str, _url: str) -> ClientRun:
    async def run() -> ClientRun:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = GreeterStub(channel)

            async def call() -> str:
                reply = await stub.SayHello(HelloRequest(name=NAME), timeout=30)
                return str(reply.message)

            await call()
            return await timed_async(call, CALLS)

    return asyncio.run(run())


def by_requests(_address: str, url: str) -> ClientRun:
    with requests.Session() as session:
        session.post(url, json=JSON, timeout=30)
        return timed(lambda: str(session.post(url, json=JSON, timeout=30).json()["message"]), CALLS)


def by_httpx(_address: str, url: str) -> ClientRun:
    with httpx.Client() as client:
        client.post(url, json=JSON)
        return timed(lambda: str(client.post(url, json=JSON).json()["message"]), CALLS)


def by_aiohttp(_address: str, url: str) -> ClientRun:
    async def run() -> ClientRun:
        async with aiohttp.ClientSession() as session:

            async def call() -> str:
                async with session.post(url, json=JSON) as answer:
                    # Our Starlette server sends no Content-Type.
                    return str((await answer.json(content_type=None))["message"])

            await call()
            return await timed_async(call, CALLS)

    return asyncio.run(run())


CLIENTS: dict[str, Callable[[str, str], ClientRun]] = {
    BASELINE: by_grpc,
    "grpc.aio": by_grpc_aio,
    "requests": by_requests,
    "httpx": by_httpx,
    "aiohttp": by_aiohttp,
}


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """Starts both servers; yields the address of the one and the URL of the other."""
    with (
        harness.server("benchmarks.servers.hello_server", GRPC_SERVER) as (_, address),
        harness.server("benchmarks.servers.hello_server", REST_SERVER) as (_, rest),
    ):
        yield address, f"http://{rest}/hello"


def measure(settings: Settings) -> dict[str, list[ClientRun]]:
    with servers() as (address, url):
        return harness.compare(
            list(CLIENTS), settings.rounds, lambda name: CLIENTS[name](address, url)
        )


def table(runs: dict[str, list[ClientRun]]) -> str:
    rows = []
    for client, each in runs.items():
        rate, cpu_ms = harness.medians(each)
        rows.append((client, f"{rate:,.0f}", f"{cpu_ms:.3f}", *harness.speed(runs, client).cells()))
    return tables.table(("client", "calls/s", "CPU ms a call", f"× {BASELINE}", "range"), rows)


def verdict(runs: dict[str, list[ClientRun]]) -> str:
    """Judges the claim."""
    best = max(harness.speed(runs, client).median for client in ("requests", "httpx", "aiohttp"))
    finding = f"gRPC's client is faster, the best for HTTP gives {best:.2f} × its calls"
    return tables.verdict(1 / best, finding)


CLAIM = Claim(
    "Clients", ClientRun, measure, table, verdict, Settings(rounds=10),
    errors=(grpc.RpcError, httpx.HTTPError, aiohttp.ClientError),
)  # fmt: skip
