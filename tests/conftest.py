"""What the tests of several chapters share: an event loop, servers, command lines."""

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

# A job in the background may begin with it ignored, and what we start would be deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["no_grpc_proxy"] = "localhost,127.0.0.1,::1"

ROOT = Path(__file__).parent.parent
WAIT = 60
"""Seconds after which something that should have happened has not."""


@pytest.fixture(scope="session")
def run_async():
    """run_async(coroutine) gives its result. One event loop for all: grpc.aio wants no second."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(WAIT)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def serve(run_async):
    """serve(start, ...) starts a server, sync or asyncio, on a free port and gives its address."""
    with ExitStack() as stack:

        def serve(start, *args):
            started = start("127.0.0.1:0", *args)
            if inspect.isawaitable(started):
                server, port = run_async(started)
                stack.callback(lambda: run_async(server.stop(None)))
            else:
                server, port = started
                stack.callback(lambda: server.stop(None).wait())
            return f"127.0.0.1:{port}"

        yield serve


def python(*args, **options):
    """Runs `python ARGS` at the root to its end."""
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=WAIT, **options
    )


@pytest.fixture
def run():
    """run("helloworld.greeter_client", ...) runs a module to its end."""
    return lambda module, *args, **options: python("-m", module, *args, **options)


@pytest.fixture
def spawn():
    """spawn(ARGS) starts `python ARGS` at the root; it is killed when the test ends."""
    with ExitStack() as stack:

        def spawn(*args, **options):
            process = subprocess.Popen(
                [sys.executable, "-u", *args],
                cwd=ROOT,
                **options,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield spawn


@pytest.fixture
def spawn_server(spawn):
    """spawn_server(ARGS) starts `python ARGS` that serves; gives the process and its address."""

    def spawn_server(*args, **options):
        process = spawn(*args, **options)
        return process, process.stdout.readline().strip().removeprefix("listening on ")

    return spawn_server
