"""A call to a server that is not there yet: it fails at once, or waits.

python -m production.lessons.wait_for_ready
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence

import grpc

from production.lessons import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

FAST = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
DOWN_S = 2.5
"""How long a server that comes lets itself be waited for."""


def ask(channel: grpc.Channel, *, wait_for_ready: bool, timeout: float) -> str:
    """How a call ends, and after how long."""
    started = time.monotonic()
    try:
        EchoServiceStub(channel).UnaryEcho(
            EchoRequest(), wait_for_ready=wait_for_ready, timeout=timeout
        )
        ended = "OK"
    except grpc.RpcError as error:
        ended = error.code().name
    return f"{ended} after {time.monotonic() - started:.1f} s"


def ask_while_it_starts(address: str, options: Sequence[tuple[str, int]]) -> str:
    """Calls, and starts the server some time after the first attempt to connect has failed."""
    failed = threading.Event()

    def on_state(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            failed.set()

    def start() -> None:
        failed.wait()
        time.sleep(DOWN_S)
        servers.append(echo_server.start(address, report=lambda _: None)[0])

    servers: list[grpc.Server] = []
    starter = threading.Thread(target=start)
    starter.start()
    with grpc.insecure_channel(address, list(options)) as channel:
        channel.subscribe(on_state, try_to_connect=True)
        seen = ask(channel, wait_for_ready=True, timeout=30)
    starter.join()
    servers[0].stop(None).wait()
    return seen


def show(folder: str) -> None:
    """Calls a server that is absent, then one that comes."""
    with grpc.insecure_channel(f"unix:{folder}/1") as channel:
        print("by default:                    ", ask(channel, wait_for_ready=False, timeout=1))
        print("wait_for_ready, nobody comes:  ", ask(channel, wait_for_ready=True, timeout=1))
    print("the server comes after 2.5 s:  ", ask_while_it_starts(f"unix:{folder}/2", []))
    print("the same, attempts every 50 ms:", ask_while_it_starts(f"unix:{folder}/3", FAST))


def main() -> None:
    argparse.ArgumentParser(description="Show calls that wait for their server.").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(folder)


if __name__ == "__main__":
    main()
