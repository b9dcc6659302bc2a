"""EchoService, served in one of several ways, with one of three kinds of work in each call.

Run it:

    python -m scaling.concurrency.lab_server threads-10 waits --port 50051

The lab starts it; see lab.py.
"""

import argparse
import asyncio
import hashlib
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc

from production.calling import addresses
from production.development.serving import STOP_SIGNALS, serve_until_signal
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse

HOST = "127.0.0.1"
WAIT_SECONDS = 0.05
STEPS = 60_000
HASHES = 6_000
POOL = ThreadPoolExecutor(64)


def wait() -> None:
    """Waits, like a query to a database: other threads run meanwhile."""
    time.sleep(WAIT_SECONDS)


def compute() -> None:
    """Computes in Python, which holds the GIL: no other thread runs Python meanwhile."""
    total = 0
    for step in range(STEPS):
        total += step


def compute_in_c() -> None:
    """Computes in C that releases the GIL, like hashes, compression and numpy."""
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", HASHES)


Work = Callable[[], object]
Handler = Any
"""A grpc.GenericRpcHandler, which has type parameters for type checkers only."""
WORK: dict[str, Work] = {"waits": wait, "computes": compute, "computes in C": compute_in_c}


def handler(way: str, work: Work) -> Handler:
    """Returns the method UnaryEcho, as this way to serve needs it."""

    def in_thread(request: EchoRequest, _context: object) -> EchoResponse:
        work()  # The call holds its thread meanwhile.
        return EchoResponse(message=request.message)

    async def awaits(request: EchoRequest, _context: object) -> EchoResponse:
        await asyncio.sleep(WAIT_SECONDS)  # The one thread serves other calls meanwhile.
        return EchoResponse(message=request.message)

    async def blocks(request: EchoRequest, _context: object) -> EchoResponse:
        work()  # Wrong: no other call is served until it is done.
        return EchoResponse(message=request.message)

    async def in_pool(request: EchoRequest, _context: object) -> EchoResponse:
        await asyncio.get_running_loop().run_in_executor(POOL, work)
        return EchoResponse(message=request.message)

    behaviour = {"awaits": awaits, "blocks": blocks, "in-pool": in_pool}.get(way, in_thread)
    method = grpc.unary_unary_rpc_method_handler(
        behaviour, EchoRequest.FromString, EchoResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler("protos.echo.v1.EchoService", {"UnaryEcho": method})


WAYS = ("threads-1", "threads-10", "threads-64")
ASYNC_WAYS = ("asyncio-awaits", "asyncio-blocks", "asyncio-in-pool")
OPTIONS = [("grpc.so_reuseport", 1)]


def start_threads(address: str, handler: Handler, threads: int) -> tuple[grpc.Server, int]:
    """Starts a server on HOST:PORT; returns it and its port. Raises RuntimeError."""
    server = grpc.server(ThreadPoolExecutor(threads), [handler], options=OPTIONS)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


async def serve_asyncio(handler: Handler, address: str) -> None:
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = grpc.aio.server(handlers=[handler], options=OPTIONS)
    print(f"listening on {HOST}:{server.add_insecure_port(address)}", flush=True)
    await server.start()
    await stop.wait()
    await server.stop(None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve EchoService for the concurrency lab.")
    parser.add_argument("way", choices=(*WAYS, *ASYNC_WAYS))
    parser.add_argument("work", choices=WORK)
    parser.add_argument("--times", type=int, default=1, help="how often a call does it")
    parser.add_argument(
        "--port", type=addresses.port, default=0, help="0 takes any; others may share it"
    )
    args = parser.parse_args()
    kind, _, how = args.way.partition("-")
    address = f"{HOST}:{args.port}"
    served = handler(how, lambda: [WORK[args.work]() for _ in range(args.times)])
    if kind == "threads":
        start = partial(start_threads, handler=served, threads=int(how))
        serve_until_signal(start, address, grace=0)
    else:
        try:
            asyncio.run(serve_asyncio(served, address))
        except RuntimeError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
