"""Many calls share one connection: connections are counted at the server, for calls at once.

Run it:

    python -m production.lessons.multiplexing
"""

import argparse
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc

CALLS = 50
TIMEOUT = 30
OWN_POOL = [("grpc.use_local_subchannel_pool", 1)]
"""A pool of connections of a channel's own. By default a process has one for all its channels."""


class Meeting(grpc.GenericRpcHandler):
    """Notes where calls come from. Calls to meet are answered once all of them are there."""

    def __init__(self) -> None:
        self.peers: set[str] = set()
        self._barrier = threading.Barrier(CALLS)

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.answer)

    def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.peers.add(context.peer())  # ipv4:127.0.0.1:PORT; each connection has its port.
        if request == b"meet":
            self._barrier.wait(TIMEOUT)
        return b""


@contextmanager
def serving(meeting: Meeting) -> Iterator[str]:
    """The address of a server that has a thread for each call."""
    server = grpc.server(ThreadPoolExecutor(CALLS), handlers=[meeting])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def method(address: str, options: Any, stack: ExitStack) -> Any:
    """A method to call, by a channel that is closed with the stack."""
    channel = stack.enter_context(grpc.insecure_channel(address, options))
    return channel.unary_unary("/lesson.v1.Meeting/Meet")


def meet(address: str, options: Sequence[Any]) -> None:
    """Makes all calls at once, spread over as many channels as there are options."""
    with ExitStack() as stack:
        methods = [method(address, each, stack) for each in options]
        calls = [methods[n % len(methods)].future(b"meet", TIMEOUT) for n in range(CALLS)]
        for call in calls:
            call.result()


def duration(address: str, kept: Any = None) -> float:
    """Seconds that a call takes by the method kept, or by a channel of its own."""
    started = time.perf_counter()
    with ExitStack() as stack:
        (kept or method(address, OWN_POOL, stack))(b"", TIMEOUT)
    return time.perf_counter() - started


def show() -> None:
    """Counts connections, then compares a channel that is kept with a channel per call."""
    meeting = Meeting()
    print("50 calls at once, by              connections")
    with serving(meeting) as address, ExitStack() as stack:
        for title, options in (
            ("1 channel", [[]]),
            ("50 channels, same options", [[]] * CALLS),
            ("50 channels, an option differs", [[("any.name", n)] for n in range(CALLS)]),
            ("50 channels, pools of their own", [OWN_POOL] * CALLS),
        ):
            meeting.peers.clear()
            meet(address, options)
            print(f"  {title:34}{len(meeting.peers)}")
        kept = method(address, OWN_POOL, stack)
        kept(b"", TIMEOUT)
        # By turns: whatever else this machine does slows both.
        pairs = [(duration(address), duration(address, kept)) for _ in range(CALLS)]
        ratio = statistics.median(fresh / used for fresh, used in pairs)
        print(f"a channel per call is slower: {'yes' if ratio > 1 else 'no'}, {ratio:.1f} times")


def main() -> None:
    argparse.ArgumentParser(description="Count the connections of many calls.").parse_args()
    show()


if __name__ == "__main__":
    main()
