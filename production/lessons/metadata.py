"""Metadata: what may be in it, what comes back with an answer and with an error, and how much.

Run it:

    python -m production.lessons.metadata
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import (
    GreeterServicer,
    GreeterStub,
    add_GreeterServicer_to_server,
)

Metadata = tuple[tuple[str, Any], ...]


class Mirror(GreeterServicer):
    """Sends metadata back: before the response, and behind it."""

    def SayHello(self, request: HelloRequest, context: grpc.ServicerContext) -> HelloReply:
        seen = [(key, value) for key, value in context.invocation_metadata() if key[:2] == "x-"]
        context.send_initial_metadata((("x-seen", str(len(seen))),))
        context.set_trailing_metadata(tuple(seen))
        if request.name == "fail":
            context.abort(grpc.StatusCode.NOT_FOUND, "as you wish")
        return HelloReply()


def send(stub: GreeterStub, metadata: Metadata, name: str = "") -> str:
    """Calls with metadata; tells what came back."""
    try:
        call = stub.SayHello.with_call(HelloRequest(name=name), metadata=metadata, timeout=10)[1]
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)  # noqa: S101 - the error is its call, too.
        return f"{error.code().name}: {error.details()}{described(error)}"
    except TypeError as error:
        return f"TypeError: {error}"
    return f"OK{described(call)}"


def described(call: grpc.Call) -> str:
    """The metadata that came before the response, and behind it."""
    before, behind = call.initial_metadata() or (), call.trailing_metadata() or ()
    return "".join(
        f" | {key}={value!r}" if len(value) < 100 else f" | {key}=({len(value)} characters)"
        for key, value in (*before, *behind)
        if key.startswith("x-")
    )


CASES: list[tuple[str, Metadata, str]] = [
    ("text", (("x-user", "ada"),), ""),
    ("bytes", (("x-trace-bin", bytes([0, 255])),), ""),
    ("with an error", (("x-user", "ada"),), "fail"),
    ("upper case", (("X-User", "ada"),), ""),
    ("not ASCII", (("x-user", "林徽因"),), ""),
    ("a line break", (("x-user", "a\nb"),), ""),
    ("bytes, no -bin", (("x-user", bytes([0, 255])),), ""),
    ("a number", (("x-user", 1),), ""),
    ("twice", (("x-user", "ada"), ("x-user", "bob")), ""),
    ("4 kB", (("x-user", "a" * 4_000),), "fail"),
    ("64 kB", (("x-user", "a" * 64_000),), ""),
]


def main() -> None:
    argparse.ArgumentParser(description="Show what metadata may be.").parse_args()
    server = grpc.server(ThreadPoolExecutor(1))
    add_GreeterServicer_to_server(Mirror(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for title, metadata, name in CASES:
            print(f"{title:16}{send(GreeterStub(channel), metadata, name)}")
    server.stop(None).wait()


if __name__ == "__main__":
    main()
