"""Serves chapter 2's greeting by one of the servers that are compared.

Run it:

    python -m benchmarks.servers.hello_server grpc.aio
"""

import argparse
import asyncio
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc

from benchmarks.servers.serving import (
    ADDRESS,
    HOST,
    announce,
    serve_asgi,
    serve_asyncio,
    serve_threads,
    sigterm_event,
)
from helloworld import async_greeter_server, greeter_server, greeting
from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import add_GreeterServicer_to_server

THREADS = 10


def serve_greeter(server: Any) -> None:
    """Serves chapter 2's servicer."""
    add_GreeterServicer_to_server(greeter_server.Greeter(), server)
    serve_threads(server, server.add_insecure_port(ADDRESS))


def grpcio_threads() -> None:
    serve_greeter(grpc.server(ThreadPoolExecutor(THREADS)))


def native_threads() -> None:
    import pygrpc_native

    serve_greeter(pygrpc_native.server(ThreadPoolExecutor(THREADS)))


async def serve_async_greeter(server: Any) -> None:
    """Serves chapter 2's asyncio servicer."""
    add_GreeterServicer_to_server(async_greeter_server.Greeter(), server)
    await serve_asyncio(server, server.add_insecure_port(ADDRESS))


async def grpcio_asyncio() -> None:
    await serve_async_greeter(grpc.aio.server())


async def native_asyncio() -> None:
    import pygrpc_native.aio

    await serve_async_greeter(pygrpc_native.aio.server())


async def fastapi() -> None:
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Request(BaseModel):
        name: str

    class Reply(BaseModel):
        message: str

    app = FastAPI()

    @app.post("/hello")
    async def hello(request: Request) -> Reply:
        return Reply(message=greeting.greet(request.name))

    await serve_asgi(app)


async def starlette() -> None:
    """Serves without models, and with the fastest JSON: as little work as possible."""
    import orjson
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def hello(request: Request) -> Response:
        name = orjson.loads(await request.body())["name"]
        return Response(orjson.dumps({"message": greeting.greet(name)}))

    await serve_asgi(Starlette(routes=[Route("/hello", hello, methods=["POST"])]))


async def connectrpc() -> None:
    """Serves protobuf over HTTP/1.1, without gRPC's framing."""
    from connectrpc.compat import google_protobuf_codecs
    from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
    from connectrpc.server import ConnectASGIApplication, Endpoint

    async def hello(request: HelloRequest, _context: Any) -> HelloReply:
        return HelloReply(message=greeting.greet(request.name))

    method = MethodInfo(
        name="SayHello",
        service_name="helloworld.Greeter",
        input=HelloRequest,
        output=HelloReply,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.UNARY,
    )
    endpoints = {"/helloworld.Greeter/SayHello": Endpoint.unary(method, hello)}

    class Application(ConnectASGIApplication[Any]):
        @property
        def path(self) -> str:
            return "/helloworld.Greeter"

    codecs = google_protobuf_codecs()
    await serve_asgi(Application(service=object(), endpoints=lambda _: endpoints, codecs=codecs))


async def grpclib() -> None:
    from grpclib.const import Cardinality, Handler
    from grpclib.server import Server, Stream

    class Greeter:
        async def hello(self, stream: Stream[HelloRequest, HelloReply]) -> None:
            request = await stream.recv_message()
            name = request.name if request else ""
            await stream.send_message(HelloReply(message=greeting.greet(name)))

        def __mapping__(self) -> dict[str, Handler]:
            handler = Handler(self.hello, Cardinality.UNARY_UNARY, HelloRequest, HelloReply)
            return {"/helloworld.Greeter/SayHello": handler}

    server = Server([Greeter()])
    stop = sigterm_event()
    with socket.create_server((HOST, 0)) as listener:
        await server.start(sock=listener)
        announce(listener.getsockname()[1])
        await stop.wait()
        server.close()
        await server.wait_closed()


def with_threads(serve: Callable[[], None]) -> None:
    serve()


def on_asyncio(serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(serve())


def on_uvloop(serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import uvloop

    uvloop.run(serve())


class Server(NamedTuple):
    """A server to compare: the protocol, the function that serves, and how to run it."""

    protocol: str
    """One of greetings.PROTOCOLS."""
    serve: Callable[[], Any]
    run: Callable[[Callable[[], Any]], None] = on_uvloop


SERVERS = {
    "grpc.aio": Server("grpc", grpcio_asyncio, on_asyncio),
    "grpc.aio, uvloop": Server("grpc", grpcio_asyncio),
    "grpcio, 10 threads": Server("grpc", grpcio_threads, with_threads),
    "grpclib": Server("grpc", grpclib),
    "pygrpc-native, 10 threads": Server("grpc", native_threads, with_threads),
    "pygrpc-native, asyncio": Server("grpc", native_asyncio),
    "connectrpc": Server("connect", connectrpc),
    "FastAPI": Server("rest", fastapi),
    "Starlette, orjson": Server("rest", starlette),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a greeting.")
    parser.add_argument("server", choices=SERVERS)
    server = SERVERS[parser.parse_args().server]
    greeting.MAX_NAME_LENGTH = 2**22  # How speed grows with the size is measured, too.
    server.run(server.serve)


if __name__ == "__main__":
    main()
