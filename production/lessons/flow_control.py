"""Flow control: a server gets only a window ahead of a client that reads slowly.

Run it:

    python -m production.lessons.flow_control
"""

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from production.development.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub, add_EchoServiceServicer_to_server

COUNT, SIZE = 1_000, 10_000
QUIET_S = 0.3
"""A server that has not sent for so long is waiting."""


class Counting(EchoServicer):
    """Knows how many responses it has got rid of."""

    sent = 0

    def ServerStreamingEcho(
        self, request: EchoRequest, context: grpc.ServicerContext
    ) -> Iterator[EchoResponse]:
        self.sent = 0
        for _ in range(request.response_count):
            yield EchoResponse(payload=bytes(request.payload_bytes))
            self.sent += 1

    def settled(self) -> str:
        """How much has been sent, once no more is."""
        before = -1
        while before != self.sent:
            before = self.sent
            time.sleep(QUIET_S)
        return f"{before * SIZE / 1000:,.0f} kB"


def show() -> None:
    """Reads nothing, then a little, then all, of a stream of 10 MB."""
    servicer = Counting("", print)
    server = grpc.server(ThreadPoolExecutor(1))
    add_EchoServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    request = EchoRequest(response_count=COUNT, payload_bytes=SIZE)
    for title, options in (
        ("a window that grows (the default)", []),
        ("a window that stays", [("grpc.http2.bdp_probe", 0)]),
    ):
        print(title)
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            responses = EchoServiceStub(channel).ServerStreamingEcho(request, timeout=60)
            print(f"  read nothing: sent {servicer.settled()}")
            read = sum(len(next(responses).payload) for _ in range(100))
            print(f"  read {read / 1000:,.0f} kB: sent {servicer.settled()}")
            read += sum(len(response.payload) for response in responses)
            print(f"  read {read / 1000:,.0f} kB: sent {servicer.settled()}")
    server.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show how a slow reader holds up a sender.").parse_args()
    show()


if __name__ == "__main__":
    main()
