"""Runs several processes of a server on one port: Python threads share one core, processes do not.

The supervisor imports no gRPC. It holds the port without listening on it; the workers share it by
SO_REUSEPORT. A worker that dies is started again. SIGHUP replaces the workers one by one, so they
pick up new code and new files. SIGTERM drains them all.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sqlite3
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process

import structlog

from production.calling.addresses import Address, parse
from production.serving import ports
from production.serving.observability import logs, metrics
from production.serving.settings import Settings

MIN_DELAY_S, MAX_DELAY_S = 0.1, 5.0
"""The delay before a worker that died is started again; it doubles while workers keep dying."""
MARGIN_S = 10
"""Seconds after the end of its drain when a worker that still runs is killed."""
HEALTHY_S = 10
"""A worker that dies later than this resets the delay."""
SAFE_SQLITE = [((3, 44, 6), (3, 45)), ((3, 50, 7), (3, 51)), ((3, 51, 3), (4,))]
"""First version and end of the lines that have the fix of https://www.sqlite.org/wal.html#walresetbug:
in others several processes can, rarely, damage a file."""

log = structlog.get_logger("supervisor")


class WorkerError(Exception):
    """A worker has ended before it served, and printed why to stderr."""


class Supervisor:
    """Keeps `count` workers alive."""

    def __init__(
        self, command: list[str], count: int, drain: float, folder: str, variables: dict[str, str]
    ) -> None:
        """command starts one worker, which prints a line once it serves and drains on SIGTERM.

        drain is how many seconds a drain may take; folder is for the workers' metrics; variables
        are added to their environment.
        """
        self._command = command
        self._folder = folder
        self._environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": folder} | variables
        self._count = count
        self._drain = drain
        self._alive: set[Process] = set()
        self._workers: set[Process] = set()  # Of those alive, the ones that are to stay.
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._replacing = asyncio.Lock()
        self._delay = MIN_DELAY_S

    async def start(self) -> None:
        """Starts all workers. Raises WorkerError if one cannot serve."""
        await self._start_worker()  # The first one alone, because it migrates the database.
        await asyncio.gather(*(self._start_worker() for _ in range(self._count - 1)))

    def terminate(self) -> None:
        """Drains all workers. Signals them only once: a second signal would kill them."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.send_signal(signal.SIGTERM)

    async def wait(self) -> None:
        """Returns when all workers have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def pids(self) -> list[int]:
        """Returns the process ids of all workers, also of those that drain."""
        return [worker.pid for worker in list(self._alive)]

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to all workers."""
        for worker in self._workers:
            _signal(worker, number)

    def kill(self) -> None:
        """Ends all workers at once, also those that have been replaced and still drain."""
        for worker in self._alive:
            _signal(worker, signal.SIGKILL)

    async def replace(self) -> None:
        """Replaces the workers one by one: an old one drains once its successor serves."""
        async with self._replacing:
            for old in list(self._workers):
                if self._stopping.is_set():
                    return
                try:
                    new = await self._start_worker()
                except WorkerError:
                    log.error("a new worker cannot serve; the old ones stay")
                    return
                log.info("worker replaced", old=old.pid, new=new.pid)
                self._workers.discard(old)
                _signal(old, signal.SIGTERM)
                try:
                    await asyncio.wait_for(old.wait(), self._drain + MARGIN_S)
                except TimeoutError:
                    log.warning("worker hangs; killed", pid=old.pid)
                    _signal(old, signal.SIGKILL)

    async def _start_worker(self) -> Process:
        # In a session of its own, so that Ctrl-C reaches only the supervisor. A worker drains when
        # its stdin closes, which happens whatever kills the supervisor.
        worker = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,
            env=self._environment,
        )
        assert worker.stdout  # noqa: S101 - for the type checker.
        self._alive.add(worker)
        self._workers.add(worker)
        if not await worker.stdout.readline():
            self._workers.discard(worker)
            await worker.wait()
            self._alive.discard(worker)
            raise WorkerError
        if self._stopping.is_set():
            _signal(worker, signal.SIGTERM)
        log.info("worker serves", pid=worker.pid)
        task = asyncio.create_task(self._watch(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return worker

    async def _watch(self, worker: Process) -> None:
        """Waits until a worker ends, and starts another unless this one was asked to end."""
        started = time.monotonic()
        status = await worker.wait()
        self._alive.discard(worker)
        metrics.mark_worker_dead(worker.pid, self._folder)
        was_asked = worker not in self._workers or self._stopping.is_set()
        self._workers.discard(worker)
        if was_asked:
            return
        log.warning("worker died", pid=worker.pid, status=status)
        if time.monotonic() - started > HEALTHY_S:
            self._delay = MIN_DELAY_S
        while not await self._stops_within(self._delay):
            self._delay = min(self._delay * 2, MAX_DELAY_S)
            with contextlib.suppress(WorkerError):
                await self._start_worker()
                return

    async def _stops_within(self, seconds: float) -> bool:
        """Waits for the seconds or until the supervisor stops; returns whether it stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()


async def supervise(chosen: Settings, program: str) -> None:
    """Serves with several processes of a program until SIGINT or SIGTERM; SIGHUP replaces them.

    SIGUSR1 is passed on to all of them.
    """
    for address in chosen.listens_on():
        ports.probe(address)
    is_safe = any(begin <= sqlite3.sqlite_version_info < end for begin, end in SAFE_SQLITE)
    if chosen.database.startswith("sqlite") and not is_safe:
        log.warning(
            "SQLite before 3.51.3 could damage a file that several processes write; use PostgreSQL",
            version=sqlite3.sqlite_version,
        )
    with ports.reserve(chosen.address) as reserved, tempfile.TemporaryDirectory() as folder:
        address = str(Address(parse(chosen.address).host, reserved.getsockname()[1]))
        flags = ["--plaintext"] if chosen.plaintext is True else []
        command = [sys.executable, "-m", program, "--worker", "--address", address, *flags]
        drain = chosen.drain_pause + chosen.grace
        # All workers must log the same pseudonym for a caller.
        secret = {} if chosen.log_secret else {f"{chosen.prefix()}LOG_SECRET": secrets.token_hex()}
        supervisor = Supervisor(command, chosen.workers, drain, folder, secret)
        stop = asyncio.Event()

        def on_stop() -> None:
            if stop.is_set():
                supervisor.kill()
            stop.set()
            supervisor.terminate()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_stop)
        loop.add_signal_handler(signal.SIGUSR1, supervisor.send_signal, signal.SIGUSR1)
        replacing: set[asyncio.Task[None]] = set()
        loop.add_signal_handler(
            signal.SIGHUP, lambda: replacing.add(asyncio.create_task(supervisor.replace()))
        )
        metrics_runner = await metrics.serve(chosen.metrics_address, folder, supervisor.pids)
        try:
            await supervisor.start()
            print(f"listening on {address}", flush=True)
            await stop.wait()
        finally:
            supervisor.terminate()
            await supervisor.wait()
            if metrics_runner:
                await metrics_runner.cleanup()


def _signal(worker: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.send_signal(number)


def run(chosen: Settings, program: str) -> None:
    """Runs a supervisor until it has stopped; program is the module of a worker."""
    logs.set_up(chosen.log, chosen.log_level)
    chosen.warn_of_exposed_secrets()
    try:
        asyncio.run(supervise(chosen, program))
    except WorkerError:
        sys.exit(1)
    except (ports.PortError, OSError) as error:
        sys.exit(f"error: {error}")
