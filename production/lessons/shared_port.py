"""SO_REUSEPORT: the kernel spreads connections over servers that share a port, not calls.

Run it:

    python -m production.lessons.shared_port
"""

import argparse
from collections import Counter

import grpc

from production.development import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

CALLS = 20
SHARED = [("grpc.so_reuseport", 1)]
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def served(address: str, *, channels: int) -> Counter[str]:
    """Which server answers how many calls, that go over so many channels."""
    by: Counter[str] = Counter()
    for _ in range(channels):
        with grpc.insecure_channel(address, OWN_CONNECTION) as channel:
            stub = EchoServiceStub(channel)
            for _ in range(CALLS // channels):
                by[stub.UnaryEcho(EchoRequest(), timeout=30).served_by] += 1
    return by


def show() -> None:
    """Calls two servers that share a port, over one connection and over many."""
    first, port = echo_server.start("127.0.0.1:0", "first", lambda _: None, SHARED)
    address = f"127.0.0.1:{port}"
    # In one process here, to be short; it is the same with one server a process.
    second, _ = echo_server.start(address, "second", lambda _: None, SHARED)
    for channels in (1, CALLS):
        by = served(address, channels=channels)
        counts = sorted(by.values(), reverse=True)
        print(f"{CALLS} calls over {channels} connections: {' and '.join(map(str, counts))}")
    first.stop(None).wait()
    second.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show who answers on a shared port.").parse_args()
    show()


if __name__ == "__main__":
    main()
