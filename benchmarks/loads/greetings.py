"""Builds the request for a greeting in each protocol, and checks the reply."""

import http.client
import json
import struct
from typing import Any, NamedTuple

import grpc

from helloworld.helloworld_pb2 import HelloReply, HelloRequest

NAME, MESSAGE = "world", "Hello, world!"
METHOD = "/helloworld.Greeter/SayHello"
PROTOCOLS = ("grpc", "connect", "rest")
OVERHEAD = len("Hello, !")
"""Characters of a message beside the name."""


class Request(NamedTuple):
    """An HTTP request: gRPC's is sent over HTTP/2, the others over HTTP/1.1."""

    path: str
    content_type: str
    body: bytes


def framed(data: bytes) -> bytes:
    """Frames a message as gRPC does: a byte of flags, the length, the bytes."""
    return struct.pack(">BI", 0, len(data)) + data


def request(protocol: str, name: str) -> Request:
    if protocol == "rest":
        return Request("/hello", "application/json", json.dumps({"name": name}).encode())
    message = HelloRequest(name=name).SerializeToString()
    if protocol == "grpc":
        return Request(METHOD, "application/grpc", framed(message))
    return Request(METHOD, "application/proto", message)


def check(protocol: str, body: bytes, name: str) -> None:
    """Raises ValueError unless a body, for gRPC without its frame, greets the name."""
    if protocol == "rest":
        message = json.loads(body).get("message")
    else:
        message = HelloReply.FromString(body).message
    if message != f"Hello, {name}!":
        raise ValueError(f"wrong reply: {body[:100]!r}")


def probe(address: str, protocol: str, name: str) -> int:
    """Calls once, and returns the size of the reply in bytes. Raises ValueError, grpc.RpcError."""
    wanted = request(protocol, name)
    if protocol == "grpc":
        with grpc.insecure_channel(address) as channel:
            method: Any = channel.unary_unary(METHOD)
            body = method(wanted.body[len(framed(b"")) :], timeout=30)
        check(protocol, body, name)
        return len(framed(body))
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", wanted.path, wanted.body, {"Content-Type": wanted.content_type})
    body = connection.getresponse().read()
    connection.close()
    check(protocol, body, name)
    return len(body)
