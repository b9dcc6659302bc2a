"""A handler of an asyncio server blocks its thread: which other calls continue.

Run it:

    python -m production.lessons.blocking_handler
"""

import argparse
import asyncio
import threading
from typing import Any

import grpc

TIMEOUT = 30


class Handlers(grpc.GenericRpcHandler):
    """Calls that wait, each in its way, until a `second` call has been served."""

    def __init__(self) -> None:
        self.first_is_here, self.second_was_here = threading.Event(), threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(getattr(self, details.method.lstrip("/")))

    def block(self, timeout: float) -> bytes:
        """Blocks its thread, as a query, a long computation or time.sleep would."""
        self.first_is_here.set()
        return b"yes" if self.second_was_here.wait(timeout) else b"no"

    async def blocks(self, _request: bytes, _context: Any) -> bytes:
        return self.block(0.5)  # In vain: it must give up, or it would wait for ever.

    async def to_thread(self, _request: bytes, _context: Any) -> bytes:
        return await asyncio.to_thread(self.block, TIMEOUT)

    def function(self, _request: bytes, _context: Any) -> bytes:
        return self.block(TIMEOUT)

    async def second(self, _request: bytes, _context: Any) -> bytes:
        self.second_was_here.set()
        return b""


def call_twice(address: str, handlers: Handlers, method: str) -> str:
    """Makes a second call while the first one is being served: has it been served meanwhile?"""
    with grpc.insecure_channel(address) as channel:
        first: Any = channel.unary_unary(f"/{method}")
        second: Any = channel.unary_unary("/second")
        answer = first.future(b"", TIMEOUT)
        handlers.first_is_here.wait(TIMEOUT)
        second(b"", TIMEOUT)
        return bytes(answer.result()).decode()


async def show() -> None:
    """Starts a server for each way to block, and prints what a second call sees of it."""
    print("the first handler blocks in     the second call is served meanwhile")
    for title, method in (
        ("async def", "blocks"),
        ("async def, by asyncio.to_thread", "to_thread"),
        ("def", "function"),
    ):
        handlers = Handlers()
        server = grpc.aio.server(handlers=[handlers])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            served = await asyncio.to_thread(call_twice, f"127.0.0.1:{port}", handlers, method)
        finally:
            await server.stop(None)
        print(f"  {title:38}{served}")


def main() -> None:
    argparse.ArgumentParser(description="Show what a handler that blocks does.").parse_args()
    asyncio.run(show())


if __name__ == "__main__":
    main()
