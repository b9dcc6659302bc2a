"""Shows that each open stream holds a thread, and how calls end when no thread is free.

Run it:

    python -m scaling.concurrency.starved
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

import grpc

PATIENCE = 1.0
"""Seconds that a caller waits for its one answer."""
SECONDS = 30
THREADS = 4


def methods(*, is_async: bool) -> Any:
    """Returns the handlers of `Talk`, which echoes a stream, and `Ask`, which echoes a message."""

    def talk(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        yield from requests

    def ask(request: bytes, _context: object) -> bytes:
        return request

    async def async_talk(requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    return grpc.method_handlers_generic_handler(
        "lesson",
        {
            "Talk": grpc.stream_stream_rpc_method_handler(async_talk if is_async else talk),
            "Ask": grpc.unary_unary_rpc_method_handler(ask),
        },
    )


@contextmanager
def threads(count: int, at_most: int | None = None) -> Iterator[str]:
    """Serves with count threads, and at_most concurrent calls, for a block; gives its address."""
    server = grpc.server(
        ThreadPoolExecutor(count), [methods(is_async=False)], maximum_concurrent_rpcs=at_most
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def how_one_more_ends(address: str, streams: int) -> str:
    """Opens streams, makes one more call, and returns how that ends."""
    with grpc.insecure_channel(address) as channel, ExitStack() as stack:
        talk: Any = channel.stream_stream("/lesson/Talk")
        ask: Any = channel.unary_unary("/lesson/Ask")
        calls = [talk(_one_and_then_silence(stack), timeout=SECONDS) for _ in range(streams)]
        for call in calls:
            next(call)  # Now it has its thread.
        try:
            ask(b"anybody?", timeout=PATIENCE)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"


def _one_and_then_silence(stack: ExitStack) -> Iterator[bytes]:
    """Yields a message, and no more until the stack ends."""
    ended = Event()
    stack.callback(ended.set)
    yield b"hello"
    ended.wait(SECONDS)


async def on_asyncio(streams: int) -> str:
    """Does the same with an asyncio server."""
    server = grpc.aio.server(handlers=[methods(is_async=True)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        return await asyncio.to_thread(how_one_more_ends, f"127.0.0.1:{port}", streams)
    finally:
        await server.stop(None)


def outcomes() -> Iterator[tuple[str, int, str]]:
    """Yields server, open streams, and how one more call ends."""
    for title, count, at_most, streams in (
        (f"{THREADS} threads", THREADS, None, THREADS - 1),
        (f"{THREADS} threads", THREADS, None, THREADS),
        (f"{THREADS} threads, at most {THREADS} calls", THREADS, THREADS, THREADS),
        ("64 threads", 64, None, 63),
        ("64 threads", 64, None, 64),
    ):
        with threads(count, at_most) as address:
            yield title, streams, how_one_more_ends(address, streams)
    yield "asyncio", 1000, asyncio.run(on_asyncio(1000))


def main() -> None:
    argparse.ArgumentParser(description="Show what open streams do to others.").parse_args()
    print("server                     open streams   one more call")
    for title, streams, ending in outcomes():
        print(f"{title:26} {streams:12}   {ending}", flush=True)


if __name__ == "__main__":
    main()
