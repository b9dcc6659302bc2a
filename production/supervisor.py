"""Several processes of the server on one port: Python threads share one core, processes do not.

    python -m production.contacts_server --plaintext --workers 2

The supervisor imports no gRPC. It holds the port without listening on it; the workers share it by
SO_REUSEPORT. A worker that dies is started again. SIGHUP replaces all workers one by one, so that
they have the code and the files of now. SIGTERM drains them all.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process

import structlog

from production import logs, metrics, settings
from production.settings import Settings

MIN_DELAY_S, MAX_DELAY_S = 0.1, 5.0
"""Before a worker that died is started again; the delay doubles while they go on dying."""
HEALTHY_S = 10
"""A worker that lived so long began well."""
SAFE_SQLITE = (3, 51, 3)
"""Before it, several processes could damage a file, rarely: https://www.sqlite.org/wal.html."""

log = structlog.get_logger("supervisor")


class WorkerError(Exception):
    """A worker has ended before it served; it has said why on stderr."""


class Supervisor:
    """Keeps so many workers alive."""

    def __init__(self, command: list[str], count: int, folder: str) -> None:
        """command starts one worker, which prints a line when it serves and drains on SIGTERM.

        folder is where the workers' metrics are.
        """
        self._command = command
        self._folder = folder
        # One pseudonym for a caller, whichever worker answers.
        secret = os.environ.get("CONTACTS_LOG_SECRET") or secrets.token_hex()
        ours = {"PROMETHEUS_MULTIPROC_DIR": folder, "CONTACTS_LOG_SECRET": secret}
        self._environment = os.environ | ours
        self._count = count
        self._workers: set[Process] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._replacing = asyncio.Lock()
        self._delay = MIN_DELAY_S

    async def start(self) -> None:
        """Starts all workers. Raises WorkerError when one cannot serve."""
        await self._start_worker()  # The first alone: it brings the database up to date.
        await asyncio.gather(*(self._start_worker() for _ in range(self._count - 1)))

    def terminate(self) -> None:
        """Lets all workers drain. Once: a second signal would end them at once."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.tell(signal.SIGTERM)

    async def wait(self) -> None:
        """Returns when all workers have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def tell(self, number: signal.Signals) -> None:
        """Sends a signal to all workers."""
        for worker in self._workers:
            _signal(worker, number)

    def kill(self) -> None:
        """Ends all workers at once."""
        self.tell(signal.SIGKILL)

    async def replace(self) -> None:
        """Starts a new worker for each old one, and lets the old one drain once the new serves."""
        async with self._replacing:
            for old in list(self._workers):
                try:
                    new = await self._start_worker()
                except WorkerError:
                    log.error("a new worker cannot serve; the old ones stay")
                    return
                log.info("worker replaced", old=old.pid, new=new.pid)
                self._workers.discard(old)
                _signal(old, signal.SIGTERM)
                await old.wait()

    async def _start_worker(self) -> Process:
        # In a session of its own, so that Ctrl-C reaches the supervisor alone. Its stdin closes
        # when the supervisor dies, whatever kills it; then the worker drains.
        worker = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,
            env=self._environment,
        )
        assert worker.stdout  # noqa: S101 - for the type checker.
        self._workers.add(worker)
        if not await worker.stdout.readline():
            self._workers.discard(worker)
            await worker.wait()
            raise WorkerError
        if self._stopping.is_set():
            _signal(worker, signal.SIGTERM)
        log.info("worker serves", pid=worker.pid)
        task = asyncio.create_task(self._watch(worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return worker

    async def _watch(self, worker: Process) -> None:
        """Waits for a worker's end, and starts another if it was not told to end."""
        started = time.monotonic()
        status = await worker.wait()
        metrics.forget(worker.pid, self._folder)
        told = worker not in self._workers or self._stopping.is_set()
        self._workers.discard(worker)
        if told:
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
        """Waits so long, or until the supervisor stops; tells whether it does."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()


def hold(address: str) -> socket.socket:
    """A socket that keeps an address for the workers, and hears nothing itself.

    Raises OSError when somebody else has the address.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    host = host.strip("[]")
    socket.create_server((host, int(port)), family=family).close()  # Nobody else shares it.
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, int(port)))
    return held


async def supervise(chosen: Settings) -> None:
    """Serves with several processes until SIGINT or SIGTERM; SIGHUP replaces them.

    SIGUSR1 goes on to each of them.
    """
    if chosen.database.startswith("sqlite") and sqlite3.sqlite_version_info < SAFE_SQLITE:
        log.warning(
            "SQLite before 3.51.3 could damage a file that several processes write; use PostgreSQL",
            version=sqlite3.sqlite_version,
        )
    host = chosen.address.rpartition(":")[0]
    with hold(chosen.address) as held, tempfile.TemporaryDirectory() as folder:
        address = f"{host}:{held.getsockname()[1]}"
        module = "production.contacts_server"
        flags = ["--plaintext"] if chosen.plaintext else []
        command = [sys.executable, "-m", module, "--worker", "--address", address, *flags]
        supervisor = Supervisor(command, chosen.workers, folder)
        stop = asyncio.Event()

        def on_stop() -> None:
            if stop.is_set():
                supervisor.kill()
            stop.set()
            supervisor.terminate()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_stop)
        loop.add_signal_handler(signal.SIGUSR1, supervisor.tell, signal.SIGUSR1)
        replacing: set[asyncio.Task[None]] = set()
        loop.add_signal_handler(
            signal.SIGHUP, lambda: replacing.add(asyncio.create_task(supervisor.replace()))
        )
        telling = await metrics.serve(chosen.metrics_address, folder)
        try:
            await supervisor.start()
            print(f"listening on {address}", flush=True)
            await stop.wait()
        finally:
            supervisor.terminate()
            await supervisor.wait()
            if telling:
                await telling.cleanup()


def _signal(worker: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.send_signal(number)


def main() -> None:
    loaded, _ = settings.from_command_line()
    logs.set_up(loaded.log, loaded.log_level)
    try:
        asyncio.run(supervise(loaded))
    except WorkerError:
        sys.exit(1)
    except OSError as error:
        sys.exit(f"error: {loaded.address}: {os.strerror(error.errno or 0)}")


if __name__ == "__main__":
    main()
