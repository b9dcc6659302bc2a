"""Counts the connections and bytes that each client needs for a hundred greetings.

Run it:

    python -m benchmarks wire
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import aiohttp
import grpc
import requests

from benchmarks import harness, tables
from benchmarks.harness import BenchmarkError
from benchmarks.loads.greetings import MESSAGE, NAME
from benchmarks.registry import Claim, Settings
from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub
from production.development.relay import Relay

CALLS = 100
AT_A_TIME = 10
TIMEOUT = 30


class Traffic(NamedTuple):
    """Counts what a client sends to its server."""

    connections: int
    sent: int
    """Bytes."""


def check(reply: object) -> None:
    """Raises BenchmarkError unless a reply is right."""
    if reply != MESSAGE:
        raise BenchmarkError(f"wrong reply: {reply!r}")


def by_stub(address: str) -> None:
    """Calls grpc's stub from ten threads over one channel."""
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(AT_A_TIME) as threads:
        stub = GreeterStub(channel)
        request = HelloRequest(name=NAME)
        for reply in threads.map(lambda _: stub.SayHello(request, timeout=TIMEOUT), range(CALLS)):
            check(reply.message)


def by_channels(address: str) -> None:
    """Opens a channel for each call, which is the mistake to avoid."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    for _ in range(CALLS):
        with grpc.insecure_channel(address, own) as channel:
            check(GreeterStub(channel).SayHello(HelloRequest(name=NAME), timeout=TIMEOUT).message)


def post(address: str, send: Callable[..., requests.Response]) -> None:
    check(send(f"http://{address}/hello", json={"name": NAME}, timeout=TIMEOUT).json()["message"])


def by_session(address: str) -> None:
    """Calls requests with a session, one call after the other."""
    with requests.Session() as session:
        for _ in range(CALLS):
            post(address, session.post)


def by_requests(address: str) -> None:
    """Calls requests without a session, as most examples do."""
    for _ in range(CALLS):
        post(address, requests.post)


def by_aiohttp(address: str) -> None:
    """Calls aiohttp with a session, ten calls at a time."""

    async def run() -> None:
        connector = aiohttp.TCPConnector(limit=AT_A_TIME)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def one() -> None:
                async with session.post(f"http://{address}/hello", json={"name": NAME}) as answer:
                    check(json.loads(await answer.read())["message"])

            await asyncio.gather(*(one() for _ in range(CALLS)))

    asyncio.run(run())


CLIENTS: dict[str, tuple[str, Callable[[str], None]]] = {
    "grpc, one channel, 10 at a time": ("grpcio, 10 threads", by_stub),
    "grpc, a channel for each call": ("grpcio, 10 threads", by_channels),
    "requests, a session, one by one": ("Starlette, orjson", by_session),
    "requests, no session": ("Starlette, orjson", by_requests),
    "aiohttp, a session, 10 at a time": ("Starlette, orjson", by_aiohttp),
}


def measure_client(client: str) -> Traffic:
    """Counts what a client sends for all its calls. Raises BenchmarkError."""
    server, calls = CLIENTS[client]
    with (
        harness.server("benchmarks.servers.hello_server", server) as (_, address),
        Relay(int(address.rpartition(":")[2])) as wire,
    ):
        calls(wire.address)
        return Traffic(wire.connections, wire.sent)


def measure(settings: Settings) -> dict[str, list[Traffic]]:
    return harness.compare(list(CLIENTS), settings.rounds, measure_client)


def table(runs: dict[str, list[Traffic]]) -> str:
    rows = []
    for client, each in runs.items():
        traffic = harness.medians(each)
        average = f"{traffic.sent / CALLS:,.0f}"
        rows.append((client, f"{traffic.connections:.0f}", f"{traffic.sent:,.0f}", average))
    return tables.table((f"client, {CALLS} calls", "connections", "bytes sent", "a call"), rows)


def verdict(runs: dict[str, list[Traffic]]) -> str:
    """Judges the claims, a line each."""
    stub, *_, rest = map(harness.medians, runs.values())
    connections, sent = rest.connections / stub.connections, rest.sent / stub.sent
    saved = f"{stub.connections:.0f} instead of {rest.connections:.0f}"
    connecting = f"HTTP/2 saves connections, for {AT_A_TIME} calls at a time {saved}"
    sending = f"gRPC saves bandwidth, a small call by HTTP/1.1 sends {sent:.1f} × the bytes"
    return f"{tables.verdict(connections, connecting)}\n{tables.verdict(sent, sending)}"


CLAIM = Claim(
    "On the wire", Traffic, measure, table, verdict, Settings(),
    errors=(grpc.RpcError, aiohttp.ClientError),
)  # fmt: skip
