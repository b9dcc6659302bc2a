"""Stream limit: a client that keeps to the limit of its connection is refused all the same.

Run it:

    python -m production.lessons.stream_limit
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest

CALLS, CALLERS = 2_000, (50, 300)
LIMIT = ("grpc.max_concurrent_streams", 100)
SERVERS = {
    "a limit of 100 streams": [LIMIT],
    "the same without the guard": [LIMIT, ("grpc.http.overload_protection", 0)],
}


async def call(channel: grpc.aio.Channel, turns: Iterator[int], codes: Counter[str]) -> None:
    """Calls as long as there are turns, and counts how the calls end."""
    stub = health_pb2_grpc.HealthStub(channel)
    for _ in turns:
        try:
            await stub.Check(HealthCheckRequest(), timeout=30)  # type: ignore[attr-defined]
            codes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            codes[error.code().name] += 1


async def measure(options: list[tuple[str, int]], callers: int) -> Counter[str]:
    """Makes `CALLS` calls, by a number of callers at a time, on one connection without retries."""
    server = grpc.aio.server(options=options)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    codes: Counter[str] = Counter()
    no_retries = [("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", no_retries) as channel:
        turns = iter(range(CALLS))
        await asyncio.gather(*(call(channel, turns, codes) for _ in range(callers)))
    await server.stop(None)
    return codes


async def show() -> None:
    """Shows how many calls are refused, with gRPC's guard against overload and without it."""
    for title, options in SERVERS.items():
        print(title)
        for callers in CALLERS:
            codes = await measure(options, callers)
            print(f"  {callers} callers: {codes['UNAVAILABLE']} of {CALLS:,} calls UNAVAILABLE")


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the calls that a stream limit refuses.")
    parser.parse_args()
    asyncio.run(show())


if __name__ == "__main__":
    main()
