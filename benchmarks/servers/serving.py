"""Serves until SIGTERM, as the harness expects: each server prints its address once it listens."""

import asyncio
import signal
import socket
import threading
from typing import Any

HOST = "127.0.0.1"
ADDRESS = f"{HOST}:0"
"""Any free port."""


def announce(port: int) -> None:
    print(f"listening on {HOST}:{port}", flush=True)


def sigterm_event() -> asyncio.Event:
    """Returns an event that SIGTERM sets."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


def serve_threads(server: Any, port: int) -> None:
    """Serves on a server with a thread pool."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    announce(port)
    stop.wait()
    server.stop(None).wait()


async def serve_asyncio(server: Any, port: int) -> None:
    """Serves on a server of asyncio."""
    stop = sigterm_event()
    await server.start()
    announce(port)
    await stop.wait()
    await server.stop(None)


async def serve_asgi(app: Any) -> None:
    """Serves an ASGI application on uvicorn, which takes uvloop and httptools if installed."""
    import uvicorn

    stop = sigterm_event()
    with socket.create_server((HOST, 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning"))
        serving = asyncio.create_task(server._serve([listener]))  # Without its signal handlers.
        announce(listener.getsockname()[1])
        await stop.wait()
        server.should_exit = True
        await serving
