"""The greeting of chapter 2, by each server that is compared: one message there, one back.

python -m benchmarks.hello_server grpc.aio
"""

import argparse
import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from helloworld import async_greeter_server, greeter_server, greeting
from helloworld.helloworld_pb2 import HelloReply, HelloRequest
from helloworld.helloworld_pb2_grpc import add_GreeterServicer_to_server

HOST = "127.0.0.1"
THREADS = 10


def listening(port: int) -> None:
    print(f"listening on {HOST}:{port}", flush=True)


async def until_told() -> None:
    """Returns at SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


def serve_threads(server: Any) -> None:
    """Serves chapter 2's servicer on a server with a thread pool."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    add_GreeterServicer_to_server(greeter_server.Greeter(), server)
    listening(server.add_insecure_port(f"{HOST}:0"))
    server.start()
    stop.wait()
    server.stop(None).wait()


async def serve_asyncio(server: Any) -> None:
    """Serves chapter 2's asyncio servicer."""
    add_GreeterServicer_to_server(async_greeter_server.Greeter(), server)
    listening(server.add_insecure_port(f"{HOST}:0"))
    await server.start()
    await until_told()
    await server.stop(None)


async def serve_asgi(app: Any) -> None:
    """Serves an ASGI application by uvicorn, with uvloop and httptools."""
    import uvicorn

    with socket.create_server((HOST, 0)) as listener:
        listening(listener.getsockname()[1])
        config = uvicorn.Config(app, access_log=False, log_level="warning")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))  # Without its signal handlers.
        await until_told()
        server.should_exit = True
        await serving


def fastapi() -> Any:
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

    return app


def starlette() -> Any:
    """No models, and the fastest JSON: as little as there can be."""
    import orjson
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def hello(request: Request) -> Response:
        name = orjson.loads(await request.body())["name"]
        return Response(orjson.dumps({"message": greeting.greet(name)}))

    return Starlette(routes=[Route("/hello", hello, methods=["POST"])])


def connect() -> Any:
    """connectrpc: protobuf over HTTP/1.1, without gRPC's framing."""
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

    return Application(
        service=object(), endpoints=lambda _: endpoints, codecs=google_protobuf_codecs()
    )


async def serve_grpclib() -> None:
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
    with socket.create_server((HOST, 0)) as listener:
        await server.start(sock=listener)
        listening(listener.getsockname()[1])
        await until_told()
        server.close()
        await server.wait_closed()


def in_uvloop(serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    import uvloop

    uvloop.run(serve())


def native_threads() -> None:
    import pygrpc_native

    serve_threads(pygrpc_native.server(ThreadPoolExecutor(THREADS)))


async def native_asyncio() -> None:
    import pygrpc_native.aio

    await serve_asyncio(pygrpc_native.aio.server())


async def grpcio_asyncio() -> None:
    await serve_asyncio(grpc.aio.server())


SERVERS: dict[str, Callable[[], None]] = {
    "grpc.aio": lambda: asyncio.run(grpcio_asyncio()),
    "grpc.aio, uvloop": lambda: in_uvloop(grpcio_asyncio),
    "grpcio, 10 threads": lambda: serve_threads(grpc.server(ThreadPoolExecutor(THREADS))),
    "grpclib": lambda: in_uvloop(serve_grpclib),
    "pygrpc-native, 10 threads": native_threads,
    "pygrpc-native, asyncio": lambda: in_uvloop(native_asyncio),
    "connectrpc": lambda: in_uvloop(lambda: serve_asgi(connect())),
    "FastAPI": lambda: in_uvloop(lambda: serve_asgi(fastapi())),
    "Starlette, orjson": lambda: in_uvloop(lambda: serve_asgi(starlette())),
}
PROTOCOLS = dict.fromkeys(SERVERS, "grpc") | {
    "connectrpc": "connect",
    "FastAPI": "rest",
    "Starlette, orjson": "rest",
}
"""What each speaks; see greetings.py."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a greeting.")
    parser.add_argument("server", choices=SERVERS)
    greeting.MAX_NAME_LENGTH = 2**22  # How speed grows with the size is measured, too.
    SERVERS[parser.parse_args().server]()


if __name__ == "__main__":
    main()
