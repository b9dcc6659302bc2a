"""A task that awaits a call is cancelled: what handlers of an asyncio server notice.

Run it:

    python -m production.lessons.async_cancellation
"""

import argparse
import asyncio
import time
from typing import Any

import grpc

WORK = 1.0
"""Seconds that a handler works when nothing stops it."""
WAIT = 30.0


class Handlers(grpc.GenericRpcHandler):
    """Three ways to handle a call. Each says when it has begun, and how it has ended."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self._commits: set[asyncio.Task[None]] = set()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(getattr(self, details.method.strip("/")))

    async def coroutine(self, _: bytes, __: Any) -> bytes:
        self.said.put_nowait("begun")
        try:
            await asyncio.sleep(WORK)
        except asyncio.CancelledError:
            self.said.put_nowait("CancelledError at await")
            raise  # To swallow it would be to go on.
        return b""

    async def to_thread(self, _: bytes, __: Any) -> bytes:
        self.said.put_nowait("begun")
        await asyncio.to_thread(self._work, asyncio.get_running_loop())
        return b""

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        time.sleep(WORK)
        loop.call_soon_threadsafe(self.said.put_nowait, "the thread is done")

    async def shielded(self, _: bytes, __: Any) -> bytes:
        self.said.put_nowait("begun")
        commit = asyncio.create_task(self._commit())
        self._commits.add(commit)  # The loop alone does not keep a task alive.
        commit.add_done_callback(self._commits.discard)
        await asyncio.shield(commit)
        return b""

    async def _commit(self) -> None:
        await asyncio.sleep(WORK)
        self.said.put_nowait("the commit is done")


async def show(handlers: Handlers, name: str, channel: grpc.aio.Channel) -> None:
    """Cancels a task that awaits a call, and prints when and how both sides end."""
    method: Any = channel.unary_unary(f"/{name}")
    call = method(b"")
    task = asyncio.ensure_future(call)
    await asyncio.wait_for(handlers.said.get(), WAIT)
    cancelled_at = time.monotonic()
    task.cancel()
    try:
        client = repr(await task)
    except asyncio.CancelledError:
        client = "CancelledError"
    how = await asyncio.wait_for(handlers.said.get(), WAIT)
    seconds = time.monotonic() - cancelled_at
    print(f"{name:19}{seconds:.0f} s  {how:28}{client}, {(await call.code()).name}")


async def run() -> None:
    """Shows all three, with a server and a client in one loop."""
    handlers = Handlers()
    server = grpc.aio.server(handlers=[handlers])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            print(f"{'handler':19}{'ends after':33}the client gets")
            for name in ("coroutine", "to_thread", "shielded"):
                await show(handlers, name, channel)
    finally:
        await server.stop(None)


def main() -> None:
    argparse.ArgumentParser(description="Cancel calls to an asyncio server.").parse_args()
    asyncio.run(run())


if __name__ == "__main__":
    main()
