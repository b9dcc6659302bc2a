"""Shared by the tests of several chapters: an event loop, servers, command lines."""

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import pytest

# A background job may start with SIGINT ignored, which the processes we start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("PYTHONUNBUFFERED", None)  # Most readers do not have it set.
os.environ["no_grpc_proxy"] = "localhost,127.0.0.1,::1"

ROOT = Path(__file__).parent.parent
WAIT = 60
"""Seconds that anything may take."""


def pytest_xdist_auto_num_workers():
    """Two for each core, because most tests wait for a server and not for the processor."""
    return 2 * (os.cpu_count() or 1)


def absent(what) -> NoReturn:
    """Skips the test, because this machine lacks something; fails it if nothing may be absent."""
    if os.environ.get("TOUR_REQUIRE") == "all":
        pytest.fail(f"absent: {what}", pytrace=False)
    pytest.skip(f"absent: {what}")


def wait_until(condition):
    """Returns the value of a condition once it is true."""
    ends = time.monotonic() + WAIT
    while not (value := condition()):
        assert time.monotonic() < ends
        time.sleep(0.02)
    return value


async def until(condition, tasks):
    """Waits until a condition is true while tasks work; raises what one of them raises."""
    async with asyncio.timeout(WAIT):
        while not condition():
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.005)


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


def python(*args, timeout=WAIT, **options):
    """Runs `python ARGS` at the root to its end."""
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
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
