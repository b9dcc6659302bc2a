"""A backend for the lessons: EchoService, and the health service beside it.

    python -m scaling.balancing.backend --address 127.0.0.1:50051 --name one

SIGUSR1 makes it say NOT_SERVING and serve on, SIGUSR2 makes it fail each call. SIGTERM drains it:
it says NOT_SERVING, serves on until clients have heard that, and finishes what is under way.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import grpc
from grpc_health.v1.health import OVERALL_HEALTH, HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from production.lessons.echo_server import EchoServicer
from protos.echo.v1.echo_pb2 import EchoRequest, EchoResponse
from protos.echo.v1.echo_pb2_grpc import add_EchoServiceServicer_to_server

PAUSE = 0.3
"""Seconds for clients to hear of NOT_SERVING. In production, what the slowest of them needs."""
GRACE = 5.0
Options = Sequence[tuple[str, int]]
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


class MayFail(EchoServicer):
    """Answers, until it is broken."""

    is_broken = False

    def UnaryEcho(self, request: EchoRequest, context: grpc.ServicerContext) -> EchoResponse:
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
    options: Options = (),
) -> tuple[grpc.Server, int]:
    """Starts a backend on address, HOST:PORT (port 0 takes any); returns it and its port.

    Raises RuntimeError when the port is taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(max_workers=16, thread_name_prefix=name),
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
    """A backend that is a process of its own, and can be lost."""

    name: str
    address: str
    program: subprocess.Popen[str]

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.program.send_signal(number)


@contextmanager
def processes(*names: str) -> Iterator[dict[str, Process]]:
    """Backends with these names, each a process; all are killed at the end."""
    with ExitStack() as stack:
        programs = {}
        for name in names:  # They start together, and are waited for below.
            command = [sys.executable, "-m", "scaling.balancing.backend"]
            program = subprocess.Popen(
                [*command, "--address", "127.0.0.1:0", "--name", name],
                stdout=subprocess.PIPE,
                text=True,
            )
            programs[name] = stack.enter_context(program)
            stack.callback(program.kill)
        backends = {}
        for name, program in programs.items():
            line = program.stdout.readline() if program.stdout else ""
            address = line.strip().removeprefix("listening on ")
            backends[name] = Process(name, address, program)
        yield backends


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve EchoService and health.")
    parser.add_argument(
        "--address", default="127.0.0.1:50051", help="HOST:PORT (default: %(default)s)"
    )
    parser.add_argument("--name", default="backend", help="who answers (default: %(default)s)")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    servicer, health = MayFail(args.name, lambda _: None), HealthServicer()
    try:
        server, port = start(args.address, args.name, servicer=servicer, health=health)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"listening on {args.address.rpartition(':')[0]}:{port}", flush=True)
    while (number := signal.sigwait(SIGNALS)) in (signal.SIGUSR1, signal.SIGUSR2):
        if number == signal.SIGUSR1:
            health.set(OVERALL_HEALTH, HealthCheckResponse.NOT_SERVING)
        else:
            servicer.is_broken = True
    health.enter_graceful_shutdown()
    time.sleep(PAUSE)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server.stop(GRACE).wait(GRACE + 1)


if __name__ == "__main__":
    main()
