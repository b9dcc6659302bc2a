"""A client cancels its calls to a server of threads: what handlers notice, what the client gets.

Run it:

    GRPC_VERBOSITY=NONE python -m production.lessons.cancellation
"""

import argparse
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import grpc

WORK = 1.0
"""Seconds that a handler works when nothing stops it."""


class Handlers(grpc.GenericRpcHandler):
    """Three ways to handle a call. Each says when it has begun, and how it has ended."""

    def __init__(self) -> None:
        self.said: SimpleQueue[str] = SimpleQueue()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == "/generator":
            return grpc.unary_stream_rpc_method_handler(self.generator)
        return grpc.unary_unary_rpc_method_handler(getattr(self, details.method.strip("/")))

    def thread(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        self.said.put("begun")
        time.sleep(WORK)  # Stands for work that never looks up.
        self.said.put(f"done, is_active() is {context.is_active()}")
        return b""

    def thread_with_event(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        gone = threading.Event()
        if not context.add_callback(gone.set):
            gone.set()  # The call was over before.
        self.said.put("begun")
        self.said.put("the event is set" if gone.wait(WORK) else "done")
        return b""

    def generator(self, _: bytes, __: grpc.ServicerContext) -> Iterator[bytes]:
        self.said.put("begun")
        try:
            while True:
                yield bytes(1 << 16)  # The client does not read: soon this blocks.
        except GeneratorExit:
            self.said.put("GeneratorExit at yield")
            raise


def show(handlers: Handlers, name: str, channel: grpc.Channel) -> None:
    """Cancels a call, and prints when and how both sides end."""
    is_stream = name == "generator"
    method: Any = (channel.unary_stream if is_stream else channel.unary_unary)(f"/{name}")
    call = method(b"") if is_stream else method.future(b"")
    handlers.said.get(timeout=30)
    cancelled_at = time.monotonic()
    call.cancel()
    try:
        client = repr(next(call) if is_stream else call.result())
    except grpc.RpcError:
        client = "RpcError"
    except grpc.FutureCancelledError:
        client = "FutureCancelledError"
    how = handlers.said.get(timeout=30)
    seconds = time.monotonic() - cancelled_at
    print(f"{name:19}{seconds:.0f} s  {how:28}{client}, {call.code().name}")


def main() -> None:
    argparse.ArgumentParser(description="Cancel calls to a server of threads.").parse_args()
    handlers = Handlers()
    with ExitStack() as stack:
        server = grpc.server(ThreadPoolExecutor(1), handlers=[handlers])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        stack.callback(server.stop, None)
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        print(f"{'handler':19}{'ends after':33}the client gets")
        for name in ("thread", "thread_with_event", "generator"):
            show(handlers, name, channel)


if __name__ == "__main__":
    main()
