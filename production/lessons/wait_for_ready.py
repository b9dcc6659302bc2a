"""Calls to a server that has not started yet or just has, with and without wait_for_ready.

Run it:

    GRPC_VERBOSITY=NONE python -m production.lessons.wait_for_ready
"""

import argparse
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from production.development.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub, add_EchoServiceServicer_to_server

FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE
TIMEOUT = 30.0
REQUEST = EchoRequest()


@contextmanager
def free_address() -> Iterator[str]:
    """An address that is kept for us, and on which nobody listens yet."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{keeper.getsockname()[1]}"


def start(address: str) -> grpc.Server:
    """Starts a server, which shares the port with its keeper."""
    server = grpc.server(ThreadPoolExecutor(2))
    add_EchoServiceServicer_to_server(EchoServicer("echo", lambda _: None), server)
    server.add_insecure_port(address)
    server.start()
    return server


def tell(what: str, call: Callable[[], object], began: float | None = None) -> None:
    """Makes a call, and prints how it ended after how many seconds."""
    began = began or time.monotonic()
    outcome = "OK"
    try:
        call()
    except grpc.RpcError as error:
        outcome = error.code().name
    print(f"  {what:32}{outcome} after {time.monotonic() - began:.0f} s")


def show_nobody() -> None:
    """Calls an address where no server ever comes."""
    print("nobody listens")
    with free_address() as address, grpc.insecure_channel(address) as channel:
        method = EchoServiceStub(channel).UnaryEcho
        tell("a call", lambda: method(REQUEST, timeout=TIMEOUT))
        tell("wait_for_ready, timeout 1 s", lambda: method(REQUEST, timeout=1, wait_for_ready=True))


def show_arrival(backoff_ms: int) -> None:
    """Calls an address where a server comes after the first attempt to connect has failed."""
    failed = threading.Event()
    options = [("grpc.initial_reconnect_backoff_ms", backoff_ms)]
    with free_address() as address, grpc.insecure_channel(address, options=options) as channel:
        channel.subscribe(lambda state: failed.set() if state is FAILED else None)
        method = EchoServiceStub(channel).UnaryEcho
        began = time.monotonic()
        waiting = method.future(REQUEST, timeout=TIMEOUT, wait_for_ready=True)
        failed.wait(TIMEOUT)
        server = start(address)
        if backoff_ms >= 1000:
            tell("a call, the server is there", lambda: method(REQUEST, timeout=TIMEOUT))
        tell("wait_for_ready, from before", waiting.result, began)
        server.stop(None).wait()
        server = start(address)
        tell("a call after a restart", lambda: method(REQUEST, timeout=TIMEOUT))
        server.stop(None)


def main() -> None:
    argparse.ArgumentParser(description="Call a server before it is there.").parse_args()
    show_nobody()
    for backoff_ms in (1000, 100):
        print(
            f"a server comes after the first attempt to connect; the next is {backoff_ms} ms later"
        )
        show_arrival(backoff_ms)


if __name__ == "__main__":
    main()
