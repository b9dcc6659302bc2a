"""A grpc.aio channel belongs to one event loop: where it works, and the errors everywhere else.

Run it:

    python -m production.lessons.event_loops
"""

import argparse
import asyncio
import logging
import re
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import grpc

from production.development import echo_server

TIMEOUT = 30
Run = Callable[[Coroutine[Any, Any, str]], str]


async def make(address: str) -> grpc.aio.Channel:
    """A channel that belongs to the event loop that runs this."""
    return grpc.aio.insecure_channel(address)


async def call(channel: grpc.aio.Channel) -> str:
    """Makes a call."""
    method: Any = channel.unary_unary("/protos.echo.v1.EchoService/UnaryEcho")
    await method(b"", timeout=TIMEOUT)
    return "OK"


async def make_and_call(address: str) -> str:
    """Makes a channel and a call, both in one event loop."""
    async with grpc.aio.insecure_channel(address) as channel:
        return await call(channel)


def tell(where: str, run: Callable[[], object]) -> None:
    """Prints what comes of it."""
    try:
        outcome = run()
    except RuntimeError as error:
        outcome = "RuntimeError: " + re.sub("<.*>", "...", str(error))
    print(f"  {where:40}{outcome}")


async def share(address: str) -> None:
    """Makes a channel here, and lets other threads use it."""
    loop = asyncio.get_running_loop()

    def run_here(calling: Coroutine[Any, Any, str]) -> str:
        return asyncio.run_coroutine_threadsafe(calling, loop).result(TIMEOUT)

    async with grpc.aio.insecure_channel(address) as channel:

        def call_by(run: Run) -> Callable[[], str]:
            return lambda: run(call(channel))

        await asyncio.to_thread(tell, "another thread's event loop", call_by(asyncio.run))
        await asyncio.to_thread(tell, "its own, asked by another thread", call_by(run_here))


def show() -> None:
    """Uses channels in the event loop that made them and in others."""
    # A call that never began makes Python complain, at some time later.
    warnings.simplefilter("ignore", RuntimeWarning)
    logging.getLogger("asyncio").disabled = True
    server, port = echo_server.start("127.0.0.1:0", report=lambda _: None)
    address = f"127.0.0.1:{port}"
    print("a channel is used in")
    channel = asyncio.run(make(address))
    tell("the event loop of the next asyncio.run", lambda: asyncio.run(call(channel)))
    asyncio.run(share(address))
    tell("the event loop that has made it", lambda: asyncio.run(make_and_call(address)))
    print("a channel is made")
    tell("where no event loop runs", lambda: grpc.aio.insecure_channel(address))
    server.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show which event loop a channel wants.").parse_args()
    show()


if __name__ == "__main__":
    main()
