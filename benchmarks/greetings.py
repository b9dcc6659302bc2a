"""How a greeting is asked for in each protocol, and whether an answer is right."""

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
"""A message has so many characters more than the name."""


class Request(NamedTuple):
    """What is sent over HTTP: gRPC's by HTTP/2, the others by HTTP/1.1."""

    path: str
    content_type: str
    body: bytes


def framed(data: bytes) -> bytes:
    """A message as gRPC sends it: a byte of flags, the length, the bytes."""
    return struct.pack(">BI", 0, len(data)) + data


def request(protocol: str, name: str) -> Request:
    if protocol == "rest":
        return Request("/hello", "application/json", json.dumps({"name": name}).encode())
    message = HelloRequest(name=name).SerializeToString()
    if protocol == "grpc":
        return Request(METHOD, "application/grpc", framed(message))
    return Request(METHOD, "application/proto", message)


def check(protocol: str, body: bytes, name: str) -> None:
    """Raises ValueError unless it is the greeting for name. A body of gRPC is without its frame."""
    if protocol == "rest":
        found = json.loads(body).get("message")
    else:
        found = HelloReply.FromString(body).message
    if found != f"Hello, {name}!":
        raise ValueError(f"wrong reply: {body[:100]!r}")


def ask(address: str, protocol: str, name: str) -> int:
    """Asks once; the size of the right answer, in bytes. Raises ValueError, grpc.RpcError."""
    asked = request(protocol, name)
    if protocol == "grpc":
        with grpc.insecure_channel(address) as channel:
            method: Any = channel.unary_unary(METHOD)
            body = method(asked.body[len(framed(b"")) :], timeout=30)
        check(protocol, body, name)
        return len(framed(body))
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", asked.path, asked.body, {"Content-Type": asked.content_type})
    body = connection.getresponse().read()
    connection.close()
    check(protocol, body, name)
    return len(body)
