"""Opens chats and keeps them open. Each holds one of the sync server's 32 threads.

Run it against a server in another terminal:

    python -m route_guide.route_guide_server --port 50051
    python -m route_guide.open_chats --address localhost:50051 --count 32
"""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator

import grpc

from route_guide.command_line import address, positive
from route_guide.route_guide_pb2 import RouteNote
from route_guide.route_guide_pb2_grpc import RouteGuideStub

DEADLINE = 3600.0
"""Seconds that a chat may stay open."""


def two_notes_then_silence() -> Iterator[RouteNote]:
    """Yields two notes and then blocks, so that the client never half-closes."""
    yield RouteNote(message="Is anybody here?")
    yield RouteNote(message="Hello?")  # The server answers this one with the first.
    threading.Event().wait()


def open_chat(stub: RouteGuideStub) -> Iterator[RouteNote]:
    """Opens a chat and waits until the server has answered, so that the handler runs."""
    chat = stub.RouteChat(two_notes_then_silence(), timeout=DEADLINE)
    next(chat)
    return chat


def main() -> None:
    parser = argparse.ArgumentParser(description="Open chats and keep them open.")
    parser.add_argument("--address", type=address, default="localhost:50051")
    parser.add_argument("--count", type=positive, default=32)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback.
    with grpc.insecure_channel(args.address) as channel:
        stub = RouteGuideStub(channel)
        try:
            # Kept in a list because gRPC cancels a call that nothing refers to.
            chats = [open_chat(stub) for _ in range(args.count)]
        except grpc.RpcError as error:
            sys.exit(f"error: {error.code().name}: {error.details()}")
        print(f"{len(chats)} chats are open; Ctrl-C closes them", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
