"""Message size: by default a receiver takes 4 MiB, and a stream can carry any amount.

Run it:

    python -m production.lessons.message_size
"""

import argparse
from collections.abc import Callable, Iterator

import grpc

from production.development import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

MIB = 1 << 20
LARGE = 20 * MIB
UNLIMITED = [("grpc.max_receive_message_length", -1)]


def outcome(call: Callable[[], int]) -> str:
    """How many bytes a call has carried, or why none."""
    try:
        return f"{call() / MIB:.0f} MiB"
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"


def asked(stub: EchoServiceStub, size: int) -> int:
    """Asks for a response of that size."""
    return len(stub.UnaryEcho(EchoRequest(payload_bytes=size), timeout=30).payload)


def sent(stub: EchoServiceStub, size: int) -> int:
    """Sends a request of that size."""
    stub.UnaryEcho(EchoRequest(payload=bytes(size)), timeout=30)
    return size


def streamed(stub: EchoServiceStub, size: int) -> int:
    """Sends that much in messages of 1 MiB, and asks for as much back, one by one."""
    chunks: Iterator[EchoRequest] = (
        EchoRequest(payload=bytes(MIB), payload_bytes=MIB) for _ in range(size // MIB)
    )
    responses = stub.BidirectionalStreamingEcho(chunks, timeout=30)
    return sum(len(response.payload) for response in responses)


def show() -> None:
    """Carries 20 MiB there and back, by default, with higher limits, and as a stream."""
    strict, strict_port = echo_server.start("127.0.0.1:0", report=lambda _: None)
    lenient, lenient_port = echo_server.start(
        "127.0.0.1:0", report=lambda _: None, options=UNLIMITED
    )
    for title, port, options, call in (
        ("large response", strict_port, [], asked),
        ("the client allows it", strict_port, UNLIMITED, asked),
        ("large request", strict_port, UNLIMITED, sent),
        ("the server allows it", lenient_port, [], sent),
        ("a stream", strict_port, [], streamed),
    ):
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            stub = EchoServiceStub(channel)
            print(f"{title:22}{outcome(lambda: call(stub, LARGE))}")  # noqa: B023
    strict.stop(None).wait()
    lenient.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show limits of messages, and what has none.").parse_args()
    show()


if __name__ == "__main__":
    main()
