"""Interceptors alone, where that is short, and in a real server, where that is shorter."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, NamedTuple

import grpc
import pytest

from production.lessons.client_interceptors import AddCaller
from production.lessons.interceptors import Observe


class Details(NamedTuple):
    """What gRPC gives a client's interceptor; its own class is private."""

    method: str = "/lesson.v1.Echo/Call"
    timeout: float | None = None
    metadata: list[tuple[str, str]] | None = None
    credentials: grpc.CallCredentials | None = None
    wait_for_ready: bool | None = None
    compression: grpc.Compression | None = None


@pytest.mark.parametrize("metadata", [None, [("x-tenant", "a")]])
def test_the_caller_is_added_to_the_metadata(metadata: list[tuple[str, str]] | None) -> None:
    def continuation(details: Details, request: bytes) -> tuple[Any, bytes]:
        return details.metadata, request

    sent = AddCaller().intercept_unary_unary(continuation, Details(metadata=metadata), b"request")

    assert sent == ([*(metadata or []), ("x-caller", "lesson")], b"request")


class Two(grpc.GenericRpcHandler):
    """Answers every call with two messages, then fails."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_stream_rpc_method_handler(self.answer)

    def answer(self, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from (b"1", b"2")
        context.abort(grpc.StatusCode.NOT_FOUND, "no third")


def test_the_end_of_a_stream_is_observed() -> None:
    seen: SimpleQueue[tuple[str, str]] = SimpleQueue()
    with ThreadPoolExecutor() as pool:
        server = grpc.server(pool, [Two()], [Observe(seen.put, wraps_streams=True)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_stream("/lesson.v1.Echo/Call")
            with pytest.raises(grpc.RpcError, match="no third"):
                list(call(b"", timeout=10))
        server.stop(None).wait()

    assert seen.get_nowait() == ("NOT_FOUND", "no")
