"""A backend with EchoService and health, in a process of its own that may be killed.

Run it:

    python -m scaling.backend --name b1 --port 50051

On SIGTERM or Ctrl-C it drains: it reports NOT_SERVING, serves for a moment longer so that its
clients notice, and finishes the calls in flight. SIGUSR1 makes it report NOT_SERVING and continue
to serve, SIGUSR2 makes it fail every call.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import grpc
from grpc_health.v1.health import OVERALL_HEALTH, HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from production.calling import addresses
from production.development.child import address_of, child
from production.development.echo_server import EchoServicer
from production.development.serving import serve_until_signal
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import add_EchoServiceServicer_to_server

HOST = "127.0.0.1"
THREADS = 64
GRACE = 10.0
"""Seconds that calls in flight have to finish."""
Options = Sequence[tuple[str, int]]


class Backend(EchoServicer):
    """EchoService that can be broken: then every unary call fails. Prints calls if asked to."""

    def __init__(self, name: str, *, prints_calls: bool) -> None:
        super().__init__(name, lambda _: None)
        self._prints_calls = prints_calls
        self.is_broken = False

    def UnaryEcho(self, request: EchoRequest, context: grpc.ServicerContext) -> EchoResponse:
        if self._prints_calls:  # One write; print would make two, and threads would mix them.
            os.write(1, f"begins {request.message}\n".encode())
        if self.is_broken:
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        return super().UnaryEcho(request, context)


def start(
    address: str,
    name: str,
    *,
    servicer: EchoServicer | None = None,
    health: HealthServicer | None = None,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
    handlers: Sequence[Any] = (),
    options: Options = (),
) -> tuple[grpc.Server, int]:
    """Starts a backend on address, HOST:PORT (port 0 takes any); returns it and its port.

    handlers are further services, as grpc.GenericRpcHandler. Raises RuntimeError if the port is
    taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix=name),
        handlers=list(handlers),
        interceptors=list(interceptors),
        options=[*options, ("grpc.so_reuseport", 0)],
    )
    add_EchoServiceServicer_to_server(servicer or EchoServicer(name, lambda _: None), server)
    add_HealthServicer_to_server(health or HealthServicer(), server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def stop(server: grpc.Server) -> None:
    """Stops a backend at once."""
    server.stop(None).wait()


class Process(NamedTuple):
    """A backend in a process of its own."""

    name: str
    address: str
    program: subprocess.Popen[str]

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.program.send_signal(number)


@contextmanager
def processes(names: Sequence[str], *flags: str) -> Iterator[dict[str, Process]]:
    """Runs backends with these names, each in a process; kills them at the end."""
    with ExitStack() as stack:
        started = {}
        for name in names:  # They start together, and are waited for below.
            command = [sys.executable, "-m", "scaling.backend", f"--name={name}", "--port=0"]
            errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            program = stack.enter_context(
                child(
                    [*command, *flags],
                    ended_by=signal.SIGKILL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            )
            started[name] = program, errors
        yield {
            name: Process(name, address_of(program, errors), program)
            for name, (program, errors) in started.items()
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve EchoService and health.")
    parser.add_argument("--port", type=addresses.port, default=50051, help="(default: %(default)s)")
    parser.add_argument("--name", default="backend", help="served_by (default: %(default)s)")
    parser.add_argument(
        "--pause",
        type=float,
        default=1,
        help="seconds between NOT_SERVING and the stop (default: %(default)s)",
    )
    parser.add_argument("--max-connection-age-ms", type=int, help="close connections at this age")
    parser.add_argument("--print-calls", action="store_true", help="print each call as it begins")
    args = parser.parse_args()
    age = args.max_connection_age_ms
    servicer, health = Backend(args.name, prints_calls=args.print_calls), HealthServicer()

    def start_this(address: str) -> tuple[grpc.Server, int]:
        options = [("grpc.max_connection_age_ms", age)] if age else []
        return start(address, args.name, servicer=servicer, health=health, options=options)

    def report_not_serving() -> None:
        health.set(OVERALL_HEALTH, HealthCheckResponse.NOT_SERVING)

    def fail_calls() -> None:
        servicer.is_broken = True

    def drain() -> None:
        health.enter_graceful_shutdown()
        time.sleep(args.pause)

    serve_until_signal(
        start_this,
        f"{HOST}:{args.port}",
        GRACE,
        before_stop=drain,
        on={signal.SIGUSR1: report_not_serving, signal.SIGUSR2: fail_calls},
    )


if __name__ == "__main__":
    main()
