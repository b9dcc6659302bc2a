"""Runs a server as a process: serves until a signal, then drains."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from production.calling import addresses, tracing
from production.serving import ports
from production.serving.observability import logs, metrics
from production.serving.settings import Settings, reload

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}

log = structlog.get_logger("server")


class Running(Protocol):
    """A running server."""

    async def stop(self) -> None:
        """Drains the server."""

    async def reload(self, fresh: Settings) -> None:
        """Reads its keys and certificates again.

        Raises OSError, ValueError or CertificateError, and then keeps those in use.
        """


Start = Callable[[bool], Awaitable[tuple[Running, int]]]
"""Called with True if the port is shared with other processes."""


async def serve(start: Start, settings: Settings, *, is_worker: bool = False) -> None:
    """Serves until SIGINT or SIGTERM, then drains. A second signal ends the process at once.

    start starts the server and returns it and its port. SIGUSR1 switches the log level, SIGHUP
    reads keys and certificates again. A worker shares its port with others, and also drains when
    its supervisor dies.
    """
    stop, hung_up = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, logs.threshold.switch)
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    if is_worker:
        loop.add_reader(sys.stdin, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        try:
            if not is_worker:
                for address in settings.listens_on():
                    ports.probe(address)
                # With several workers, the supervisor serves the metrics of all of them.
                if runner := await metrics.serve(settings.metrics_address):
                    stack.push_async_callback(runner.cleanup)
            server, port = await start(is_worker)
        except Exception as error:  # noqa: BLE001 - any error is a reason not to start.
            sys.exit(f"error: {_reason(error)}")
        host = addresses.parse(settings.address).host
        print(f"listening on {addresses.Address(host, port)}", flush=True)
        reloading = asyncio.create_task(_reload(hung_up, server, settings))
        await stop.wait()
        reloading.cancel()
        if is_worker:
            loop.remove_reader(sys.stdin)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        log.info("draining", pause=settings.drain_pause, grace=settings.grace)
        await server.stop()
    log.info("stopped")


async def _reload(hung_up: asyncio.Event, server: Running, settings: Settings) -> None:
    """Reloads the server whenever the event is set. settings are those that it has started with."""
    while await hung_up.wait():
        hung_up.clear()
        try:
            fresh, changed = reload(settings)
            await server.reload(fresh)
        except Exception as error:  # noqa: BLE001 - what is in use still works.
            log.error("reload failed; what is in use is kept", error=_reason(error))
            continue
        log.info("reloaded")
        if names := [name for name in changed if name not in settings.reloaded]:
            log.warning("a restart is needed", changed=names)


def _reason(error: Exception) -> str:
    """Returns one line on why something failed."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return (str(error) or type(error).__name__).splitlines()[0]


def run(start: Start, settings: Settings, name: str, *, is_worker: bool = False) -> None:
    """Runs a server until it has stopped; name is its name in traces."""
    logs.set_up(settings.log, settings.log_level)
    if not is_worker:
        settings.warn_of_exposed_secrets()
    try:
        shut_down_tracing = tracing.set_up(name)
    except ValueError as error:
        sys.exit(f"error: {error}")
    asyncio.run(serve(start, settings, is_worker=is_worker))
    shut_down_tracing()
