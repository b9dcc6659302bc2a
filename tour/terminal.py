"""A terminal that runs one command at a time, as a reader's does."""

import codecs
import os
import signal
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path


class Terminal:
    """Runs commands on a pseudo-terminal and keeps their output.

    Each command has a session of its own, so that ^C and `kill` reach all of its processes. On
    Linux they end even if this process is killed, because the kernel hangs up their terminal.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.environment = environment
        self.status = 0
        """Exit status of the last command; -N when signal N ended it."""
        self.output = ""
        """The output that has not been taken by `take` yet."""
        self.fd = -1
        """Readable when there is output to `read`; -1 when no command runs."""

    @property
    def is_running(self) -> bool:
        return self.fd >= 0

    def start(self, command: str) -> None:
        """Starts a shell command, whose `$?` is the status of the previous one."""
        fd, tty = os.openpty()
        attributes = termios.tcgetattr(tty)
        attributes[1] &= ~termios.ONLCR  # Lines end in \n, not \r\n.
        attributes[3] &= ~termios.ECHOCTL  # ^C shows as a line of its own, as in the README.
        termios.tcsetattr(tty, termios.TCSANOW, attributes)
        # A session leader that opens a terminal by its name is controlled by it.
        script = f"exec <{os.ttyname(tty)}\n(exit {self.status & 0xFF})\n{command}"
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", script],
                cwd=self.directory,
                env=self.environment,
                stdin=tty,
                stdout=tty,
                stderr=tty,
                start_new_session=True,
            )
        except OSError:
            os.close(fd)
            raise
        finally:
            os.close(tty)
        self.fd = fd
        self.output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def read(self) -> str:
        """Waits for output and returns it; "" once the command has ended."""
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # Linux: the last process has closed the terminal.
            data = b""
        if not data:
            self.status = self._process.wait()
            self._close()
        text = self._decoder.decode(data, final=not data)
        self.output += text
        return text

    def write(self, text: str) -> None:
        """Types text."""
        os.write(self.fd, text.encode())

    def take(self, length: int) -> None:
        """Removes the first length characters of the output."""
        self.output = self.output[length:]

    def interrupt(self) -> None:
        """Presses ^C."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kills the command and all processes it has started."""
        if self.is_running:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._close()

    def _close(self) -> None:
        os.close(self.fd)
        self.fd = -1
