"""What surrounds the lessons: servers, a control plane with its file, and Envoy.

The process of the lesson is the gRPC client.
"""

import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from production.development import programs
from production.development.child import child, server
from production.development.programs import AbsentError
from scaling.proxies.proxy import free_port

FOLDER = Path(__file__).parent
HOST = "127.0.0.1"
TARGET = "xds:///echo.example"
SERVERS = ("stable", "spare", "canary")
PATIENCE = 60.0
"""Seconds that anything may take."""
Edits = dict[str, str]
"""Texts of echo.yaml, each with what replaces it."""


class Program:
    """A server in a process of its own, which starts again at the same port."""

    def __init__(self, stack: ExitStack, log: Path, command: list[str]) -> None:
        """Starts it, with its stderr in log. Raises RuntimeError."""
        self.log = log
        self.port = 0
        self._stack, self._command = stack, command
        self.start()

    def start(self) -> None:
        """Starts it. Raises RuntimeError."""
        command = [*self._command, f"--port={self.port}"]
        run = server(command, log=self.log, ended_by=signal.SIGKILL)
        self._process, address = self._stack.enter_context(run)
        self.port = int(address.rpartition(":")[2])

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def replace(self) -> None:
        """Starts another one, at another port, as a new version would. To the old address a client
        may wait before it connects again."""
        self.kill()
        self.port = 0
        self.start()

    def kill(self) -> None:
        """Ends it by SIGKILL, so that its connections end without a word."""
        self._process.kill()
        self._process.wait(PATIENCE)


class Scene:
    """Servers, a control plane with them in its file, and a client of each kind."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        """Starts everything. Raises AbsentError if there is no xds-python, and RuntimeError."""
        python = programs.find("xds-python")
        backend = [sys.executable, "-m", "scaling.backend"]
        self.servers = {
            name: Program(stack, folder / f"{name}.log", [*backend, f"--name={name}"])
            for name in SERVERS
        }
        self._stack, self._folder, self._edge = stack, folder, free_port()
        self.file = folder / "echo.yaml"
        self._version = 1
        self._write({})
        plane = [python, "-m", "scaling.xds.control_plane", str(self.file)]
        self.control_plane = Program(stack, folder / "control_plane.log", plane)
        self.channels = {"caller": self._python()}
        """By the name under which each client subscribes."""
        self.absent = ""
        try:
            self.channels["envoy"] = self._envoy()
        except AbsentError as error:
            self.absent = str(error)
        for channel in self.channels.values():
            wait_until(grpc.channel_ready_future(channel).done)

    def _python(self) -> grpc.Channel:
        # gRPC reads it once, with the first channel.
        os.environ["GRPC_XDS_BOOTSTRAP"] = self._filled("bootstrap.json")
        return self._stack.enter_context(grpc.insecure_channel(TARGET))

    def _envoy(self) -> grpc.Channel:
        command = [programs.find("envoy"), "--use-dynamic-base-id", "--log-level", "off"]
        self._stack.enter_context(child([*command, "-c", self._filled("envoy.yaml")]))
        return self._stack.enter_context(grpc.insecure_channel(f"{HOST}:{self._edge}"))

    def _filled(self, name: str) -> str:
        """Writes a copy of a file beside this one, with its blank filled in; returns its path."""
        text = (FOLDER / name).read_text().replace("XDS_PORT", str(self.control_plane.port))
        (self._folder / name).write_text(text)
        return str(self._folder / name)

    def _write(self, edits: Edits) -> None:
        self._edits, text = edits, (FOLDER / "echo.yaml").read_text()
        for old, new in edits.items():
            assert old in text, old  # noqa: S101 - a lesson that no longer fits echo.yaml.
            text = text.replace(old, new)
        ports = {name: program.port for name, program in self.servers.items()}
        for name, port in (ports | {"edge": self._edge}).items():
            text = text.replace(f"{name.upper()}_PORT", str(port))
        replace(self.file, text)

    def apply(self, edits: Edits) -> None:
        """Writes a state, unless it is the present one, and waits until each client has accepted or
        rejected its routes."""
        if edits != self._edits:
            self._write(edits)
            self._version += 1
            self._wait_for_answers()

    def restart(self) -> None:
        """Starts the control plane after it has been killed, and waits for its clients."""
        self.control_plane.start()
        self._version = 1
        self._wait_for_answers()

    def _wait_for_answers(self) -> None:
        answer = rf": N?ACK routes version {self._version}\b"
        missing = set(self.channels)

        def have_answered() -> bool:
            for line in self.log():
                missing.difference_update([c for c in missing if re.match(c + answer, line)])
            return not missing

        wait_until(have_answered)

    def log(self) -> list[str]:
        """Returns what the control plane has reported since it was last started."""
        return self.control_plane.log.read_text().splitlines()


def replace(file: Path, text: str) -> None:
    """Writes a file in one step, so that nobody reads half of it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds. Raises TimeoutError after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing after {PATIENCE:.0f} s")
        time.sleep(0.02)


@contextmanager
def scene() -> Iterator[Scene]:
    """Runs a scene for a block. Raises AbsentError or RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="xds-") as folder, ExitStack() as stack:
        yield Scene(stack, Path(folder))
