"""EchoService: answers as each request orders, and prints how each call ended.

Run it, or start it inside a program, as the lessons do:

    python -m production.development.echo_server --port 50051
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Self

import grpc

from production.calling import addresses
from production.development.serving import serve_until_signal
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import (
    EchoServiceServicer,
    EchoServiceStub,
    add_EchoServiceServicer_to_server,
)

HOST = "127.0.0.1"
MAX_PAYLOAD_BYTES = 64 << 20
GRACE = 5.0
"""Seconds that calls in flight have to finish once the server is to stop."""
A_DAY = 86_400.0
"""Seconds. For a call without a deadline, gRPC reports centuries."""
CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.ServicerContext
Report = Callable[[str], object]
"""Called with one line about each call."""


class Call:
    """One call as its server sees it; reports how it ended."""

    def __init__(self, context: Context, name: str, report: Report) -> None:
        self._context, self._name, self._report = context, name, report
        self._ended = threading.Event()
        if not context.add_callback(self._ended.set):
            self._ended.set()
        self._started = time.monotonic()
        previous = dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts", "0")
        self._attempt = 1 + int(previous)
        self._requests = self._responses = 0
        self._left_at_start = self.left()

    def left(self) -> float | None:
        """Returns the seconds until the deadline, None without one."""
        seconds = self._context.time_remaining()
        return seconds if seconds < A_DAY else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        code = self._context.code() or grpc.StatusCode.OK  # type: ignore[attr-defined]
        seconds = time.monotonic() - self._started
        # At a deadline, the next server's error may arrive before our own caller's cancellation.
        is_given_up = self._ended.is_set() or self.left() == 0
        end = f"given up by its caller after {seconds:.1f} s" if is_given_up else code.name
        left = "" if self._left_at_start is None else f", {self._left_at_start:.1f} s left"
        self._report(f"{self._name}: attempt {self._attempt}{left}: {end}")

    def received(self, request: EchoRequest) -> None:
        """Counts a request; rejects one that cannot be carried out."""
        check(request, self._context)
        self._requests += 1

    def answers(self, request: EchoRequest, count: int) -> Iterator[EchoResponse]:
        """Yields count responses as the request orders, fewer if the call ends first."""
        for _ in range(count):
            self._fail_if_ordered(request)
            # A thread cannot be cancelled: a long handler must check if its caller still waits.
            if self._ended.wait(request.delay.ToMicroseconds() / 1e6):
                return
            self._responses += 1
            yield self._response(request)
        self._fail_if_ordered(request)

    def _response(self, request: EchoRequest) -> EchoResponse:
        response = EchoResponse(
            message=request.message,
            served_by=self._name,
            attempt=self._attempt,
            payload=bytes(request.payload_bytes),
            request_count=self._requests,
        )
        if (left := self.left()) is not None:
            response.time_remaining.FromMicroseconds(int(left * 1e6))
        return response

    def _fail_if_ordered(self, request: EchoRequest) -> None:
        failure = request.failure
        is_due = failure.code and self._responses == failure.after_responses
        if not is_due or (failure.attempts and self._attempt > failure.attempts):
            return
        if failure.HasField("retry_pushback"):
            milliseconds = str(failure.retry_pushback.ToMilliseconds())
            self._context.set_trailing_metadata((("grpc-retry-pushback-ms", milliseconds),))
        self._context.abort(CODES[failure.code], failure.message)


def check(request: EchoRequest, context: Context) -> None:
    """Aborts with INVALID_ARGUMENT if an order cannot be carried out."""
    for is_wrong, why in (
        (request.delay.ToMicroseconds() < 0, "delay is below zero"),
        (request.response_count < 0, "response_count is below zero"),
        (
            not 0 <= request.payload_bytes <= MAX_PAYLOAD_BYTES,
            "payload_bytes is not in 0 to 64 MiB",
        ),
        (request.failure.code not in CODES, "failure.code is no status code"),
    ):
        if is_wrong:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)


class EchoServicer(EchoServiceServicer):
    """Answers with the name of its server."""

    def __init__(self, name: str, report: Report) -> None:
        self._name, self._report = name, report
        self._channel = cache(grpc.insecure_channel)

    def _call(self, context: Context) -> Call:
        return Call(context, self._name, self._report)

    def UnaryEcho(self, request: EchoRequest, context: Context) -> EchoResponse:
        with self._call(context) as call:
            call.received(request)
            if request.via:
                return self._pass_on(request, context, call.left())
            return next(call.answers(request, 1), EchoResponse())

    def _pass_on(
        self, request: EchoRequest, context: Context, timeout: float | None
    ) -> EchoResponse:
        """Calls the next server, for as long as our own caller waits."""
        stub = EchoServiceStub(self._channel(request.via[0]))
        del request.via[0]
        asked = stub.UnaryEcho.future(request, timeout=timeout)
        context.add_callback(asked.cancel)  # type: ignore[arg-type]  # It returns a bool.
        try:
            return asked.result()
        except grpc.FutureCancelledError:  # By the line above: the caller has gone.
            return EchoResponse()
        except grpc.RpcError as error:
            context.abort(error.code(), error.details() or "")

    def ServerStreamingEcho(self, request: EchoRequest, context: Context) -> Iterator[EchoResponse]:
        with self._call(context) as call:
            call.received(request)
            yield from call.answers(request, request.response_count or 1)

    def ClientStreamingEcho(
        self, request_iterator: Iterator[EchoRequest], context: Context
    ) -> EchoResponse:
        request = EchoRequest()
        with self._call(context) as call:
            for request in request_iterator:
                call.received(request)
            return next(call.answers(request, 1), EchoResponse())

    def BidirectionalStreamingEcho(
        self, request_iterator: Iterator[EchoRequest], context: Context
    ) -> Iterator[EchoResponse]:
        with self._call(context) as call:
            for request in request_iterator:
                call.received(request)
                yield from call.answers(request, request.response_count or 1)


def start(
    address: str,
    name: str = "echo",
    report: Report = print,
    options: Sequence[tuple[str, int]] = (),
) -> tuple[grpc.Server, int]:
    """Starts a server on address, HOST:PORT (port 0 takes any); returns it and its port.

    report is called with one line for each call. Raises RuntimeError if the port is taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(max_workers=32, thread_name_prefix=name),
        options=[*options, ("grpc.so_reuseport", 0)],  # What comes first counts.
    )
    add_EchoServiceServicer_to_server(EchoServicer(name, report), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve EchoService, and print each call's end.")
    parser.add_argument("--port", type=addresses.port, default=50051, help="(default: %(default)s)")
    parser.add_argument("--name", default="echo", help="served_by (default: %(default)s)")
    args = parser.parse_args()
    start_this = partial(start, name=args.name, report=partial(print, flush=True))
    serve_until_signal(start_this, f"{HOST}:{args.port}", GRACE)


if __name__ == "__main__":
    main()
