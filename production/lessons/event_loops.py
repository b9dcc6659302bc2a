"""asyncio: a channel belongs to one event loop, and whoever blocks the loop stops everybody.

python -W ignore -m production.lessons.event_loops
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc

from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import (
    GreeterServicer,
    GreeterStub,
    add_GreeterServicer_to_server,
)

WORK_S = 0.2
CALLS = 5
Context = grpc.aio.ServicerContext[HelloRequest, HelloReply]


class Greeter(GreeterServicer):
    """Works as the name says: in the event loop, or in a thread."""

    async def SayHello(self, request: HelloRequest, context: Context) -> HelloReply:
        if request.name == "blocking":
            time.sleep(WORK_S)  # noqa: ASYNC251 - the mistake that is shown.
        else:
            await asyncio.to_thread(time.sleep, WORK_S)
        return HelloReply()


async def at_once(name: str) -> float:
    """Seconds that several calls take which begin together."""
    server = grpc.aio.server()
    add_GreeterServicer_to_server(Greeter(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = GreeterStub(channel)
        await channel.channel_ready()
        started = time.monotonic()
        await asyncio.gather(*(stub.SayHello(HelloRequest(name=name)) for _ in range(CALLS)))
        seconds = time.monotonic() - started
    await server.stop(None)
    return seconds


async def open_channel() -> grpc.aio.Channel:
    """A channel of this event loop. Nobody listens there: it is about who may use it."""
    return grpc.aio.insecure_channel("127.0.0.1:1")


async def call(channel: grpc.aio.Channel) -> Any:
    """One call."""
    return await GreeterStub(channel).SayHello(HelloRequest(), timeout=5)


def in_another_run() -> None:
    """The loop that the channel was made in has ended."""
    channel = asyncio.run(open_channel())
    asyncio.run(call(channel))


def in_another_thread() -> None:
    """The loop that the channel was made in runs in another thread."""

    async def main() -> None:
        channel = await open_channel()
        await asyncio.to_thread(lambda: asyncio.run(call(channel)))

    asyncio.run(main())


def where_it_was_made() -> None:
    """The channel and the call have one loop."""

    async def main() -> None:
        await call(await open_channel())

    asyncio.run(main())


def outcome(use: Callable[[], None]) -> str:
    """How a use of a channel ends."""
    try:
        use()
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}, as it should be"
    except RuntimeError as error:
        return f"RuntimeError: ...{str(error)[-30:]}"
    return "OK"


def main() -> None:
    argparse.ArgumentParser(description="Show what asyncio asks of gRPC.").parse_args()
    print("a channel in its own loop:        ", outcome(where_it_was_made))
    print("in a later asyncio.run:           ", outcome(in_another_run))
    print("in the loop of another thread:    ", outcome(in_another_thread))
    print(f"{CALLS} calls of {WORK_S} s, blocking:     {asyncio.run(at_once('blocking')):.1f} s")
    print(f"{CALLS} calls of {WORK_S} s, in threads:   {asyncio.run(at_once('threads')):.1f} s")


if __name__ == "__main__":
    main()
