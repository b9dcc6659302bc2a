"""A client cancels its call: an asyncio handler is interrupted, a thread must look.

python -m production.lessons.cancellation
"""

import argparse
import asyncio
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import (
    GreeterServicer,
    GreeterStub,
    add_GreeterServicer_to_server,
)

WORK_S = 0.5
Events = queue.Queue[str]


class Threaded(GreeterServicer):
    """Works in a thread; with attention it looks whether anybody still waits."""

    def __init__(self, events: Events, *, attentive: bool) -> None:
        self._events, self._attentive = events, attentive

    def SayHello(self, request: HelloRequest, context: grpc.ServicerContext) -> HelloReply:
        ended = threading.Event()
        context.add_callback(ended.set)
        self._events.put("began")
        for _ in range(5):
            if self._attentive and ended.wait(WORK_S / 5):
                self._events.put("stopped")
                return HelloReply()
            if not self._attentive:
                threading.Event().wait(WORK_S / 5)  # Stands for work that nothing interrupts.
        self._events.put("worked to the end, for nobody")
        return HelloReply()


class Asyncio(GreeterServicer):
    """Works as a coroutine."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def SayHello(
        self, request: HelloRequest, context: grpc.aio.ServicerContext[HelloRequest, HelloReply]
    ) -> HelloReply:
        self._events.put("began")
        try:
            await asyncio.sleep(WORK_S)
        except asyncio.CancelledError:
            self._events.put("CancelledError")
            raise
        self._events.put("worked to the end, for nobody")
        return HelloReply()


def cancelled(port: int, events: Events) -> str:
    """Calls, cancels as soon as the server works; returns what the server did then."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = GreeterStub(channel).SayHello.future(HelloRequest(), timeout=30)
        events.get()
        call.cancel()
        return f"client: {call.code().name:12}server: {events.get()}"


def show_threaded(*, attentive: bool) -> str:
    """What a threaded server does."""
    events: Events = queue.Queue()
    server = grpc.server(ThreadPoolExecutor(1))
    add_GreeterServicer_to_server(Threaded(events, attentive=attentive), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    seen = cancelled(port, events)
    server.stop(None).wait()
    return seen


async def show_asyncio() -> str:
    """What an asyncio server does."""
    events: Events = queue.Queue()
    server = grpc.aio.server()
    add_GreeterServicer_to_server(Asyncio(events), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    seen = await asyncio.to_thread(cancelled, port, events)
    await server.stop(None)
    return seen


def main() -> None:
    argparse.ArgumentParser(description="Show what a cancelled call does to a server.").parse_args()
    print("thread:                ", show_threaded(attentive=False))
    print("thread, with attention:", show_threaded(attentive=True))
    print("asyncio:               ", asyncio.run(show_asyncio()))


if __name__ == "__main__":
    main()
