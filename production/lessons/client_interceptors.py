"""A client's interceptors add metadata to its calls: one class with threads, four with asyncio.

Run it:

    python -m production.lessons.client_interceptors
"""

import argparse
import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Server(grpc.GenericRpcHandler):
    """Answers every call, of any kind, with the x-caller that it came with."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        return grpc.stream_stream_rpc_method_handler(self.answer)

    def answer(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        list(requests)
        yield str(dict(context.invocation_metadata()).get("x-caller", "-")).encode()


def add(_self: Any, continuation: Any, details: Any, request: Any) -> Any:
    """An interceptor's method, for threads. The request may be an iterator of requests."""
    metadata = [*(details.metadata or ()), ("x-caller", "lesson")]
    return continuation(details._replace(metadata=metadata), request)


async def async_add(_self: Any, continuation: Any, details: Any, request: Any) -> Any:
    """The same for asyncio."""
    metadata = grpc.aio.Metadata(*(details.metadata or ()), ("x-caller", "lesson"))
    return await continuation(details._replace(metadata=metadata), request)


# A type checker tells the four kinds apart, these functions do not.
ADD: Any = add
ASYNC_ADD: Any = async_add


class AddCaller(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """One class for all kinds of call."""

    intercept_unary_unary = intercept_unary_stream = ADD
    intercept_stream_unary = intercept_stream_stream = ADD


class AllInOne(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    """The same with asyncio: gRPC takes it for an interceptor of unary calls, and nothing else."""

    intercept_unary_unary = intercept_unary_stream = ASYNC_ADD
    intercept_stream_unary = intercept_stream_stream = ASYNC_ADD


class UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary = ASYNC_ADD


class UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream = ASYNC_ADD


class StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary = ASYNC_ADD


class StreamStream(grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream = ASYNC_ADD


def with_threads(address: str) -> list[str]:
    """What the server has got with each kind of call."""
    with grpc.insecure_channel(address) as plain:
        channel = grpc.intercept_channel(plain, AddCaller())
        got = []
        for kind in KINDS:
            call: Any = getattr(channel, kind)("/lesson.v1.Echo/Caller")
            request = iter([b""]) if kind.startswith("stream") else b""
            response = call(request, timeout=10)
            got.append(b"".join(response) if kind.endswith("stream") else response)
    return [caller.decode() for caller in got]


async def with_asyncio(address: str, *interceptors: grpc.aio.ClientInterceptor) -> list[str]:
    """The same with asyncio."""
    got = []
    async with grpc.aio.insecure_channel(address, interceptors=interceptors) as channel:
        for kind in KINDS:
            call: Any = getattr(channel, kind)("/lesson.v1.Echo/Caller")
            response = call([b""] if kind.startswith("stream") else b"", timeout=10)
            got.append(
                b"".join([part async for part in response])
                if kind.endswith("stream")
                else await response
            )
    return [caller.decode() for caller in got]


def main() -> None:
    argparse.ArgumentParser(description="Show interceptors of clients.").parse_args()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Server()])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    four = UnaryUnary(), UnaryStream(), StreamUnary(), StreamStream()
    for title, got in (
        ("", KINDS),
        ("threads, one class", with_threads(address)),
        ("asyncio, one class", asyncio.run(with_asyncio(address, AllInOne()))),
        ("asyncio, four classes", asyncio.run(with_asyncio(address, *four))),
    ):
        print("{:23}{:13}{:14}{:14}{}".format(title, *got))
    server.stop(None).wait()


if __name__ == "__main__":
    main()
