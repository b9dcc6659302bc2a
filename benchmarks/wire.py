"""A hundred greetings on the wire: how many connections, and how many bytes, each client needs.

python -m benchmarks.wire
"""

import argparse
import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import aiohttp
import grpc
import requests
from rich import box
from rich.table import Table

from benchmarks import harness
from benchmarks.greetings import MESSAGE, NAME
from benchmarks.harness import BenchmarkError
from helloworld.helloworld_pb2 import HelloRequest
from helloworld.helloworld_pb2_grpc import GreeterStub
from production.lessons.wire import Wire

CALLS = 100
AT_A_TIME = 10
TIMEOUT = 30


class Seen(NamedTuple):
    """What has gone from a client to its server."""

    connections: int
    sent: int
    """Bytes."""


def check(found: object) -> None:
    if found != MESSAGE:
        raise BenchmarkError(f"wrong reply: {found!r}")


def by_stub(address: str) -> None:
    """grpc's stub, calls from ten threads over one channel."""
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(AT_A_TIME) as threads:
        stub = GreeterStub(channel)
        request = HelloRequest(name=NAME)
        for reply in threads.map(lambda _: stub.SayHello(request, timeout=TIMEOUT), range(CALLS)):
            check(reply.message)


def by_channels(address: str) -> None:
    """A channel for each call: what not to do."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    for _ in range(CALLS):
        with grpc.insecure_channel(address, own) as channel:
            check(GreeterStub(channel).SayHello(HelloRequest(name=NAME), timeout=TIMEOUT).message)


def post(address: str, send: Callable[..., requests.Response]) -> None:
    check(send(f"http://{address}/hello", json={"name": NAME}, timeout=TIMEOUT).json()["message"])


def by_session(address: str) -> None:
    """requests with a session, one call after the other."""
    with requests.Session() as session:
        for _ in range(CALLS):
            post(address, session.post)


def by_requests(address: str) -> None:
    """requests without a session, as most examples have it."""
    for _ in range(CALLS):
        post(address, requests.post)


def by_aiohttp(address: str) -> None:
    """aiohttp with a session, ten calls at a time."""

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


def measure(client: str) -> Seen:
    """What a client sends for all its calls. Raises BenchmarkError."""
    server, calls = CLIENTS[client]
    with (
        harness.server("benchmarks.hello_server", server) as (_, address),
        Wire(int(address.rpartition(":")[2])) as wire,
    ):
        calls(wire.address)
        return Seen(wire.connections, wire.sent)


def table(seen: dict[str, list[Seen]]) -> Table:
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column(f"client, {CALLS} calls", no_wrap=True)
    for heading in ("connections", "bytes sent", "a call"):
        result.add_column(heading, justify="right", no_wrap=True)
    for client, (found,) in seen.items():
        average = f"{found.sent / CALLS:,.0f}"
        result.add_row(client, str(found.connections), f"{found.sent:,}", average)
    return result


def verdict(seen: dict[str, list[Seen]]) -> str:
    """What holds of the claims, a line each."""
    (stub,), *_, (rest,) = seen.values()
    connections, sent = rest.connections / stub.connections, rest.sent / stub.sent
    return (
        f"{'holds' if connections > 1 else 'does not hold'}: HTTP/2 saves connections, for "
        f"{AT_A_TIME} calls at a time {stub.connections} instead of {rest.connections}\n"
        f"{'holds' if sent > 1 else 'does not hold'}: gRPC saves bandwidth, a small call by "
        f"HTTP/1.1 sends {sent:.1f} × the bytes"
    )


def main() -> None:
    argparse.ArgumentParser(description="Count connections and bytes.").parse_args()
    with harness.ending_clearly(grpc.RpcError, aiohttp.ClientError):
        seen = {client: [measure(client)] for client in CLIENTS}
    harness.save(harness.RESULTS / "wire.json", seen)
    print(harness.text(table(seen), verdict(seen)))


if __name__ == "__main__":
    main()
