"""Log lines go to stderr, for people or as JSON, and never keep a call waiting."""

import atexit
import logging
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import Literal, TextIO

import structlog

Level = Literal["debug", "info"]

INTERVAL = 0.05
"""Seconds a line waits to be written together with others."""
MAX_LINES = 10_000
"""Lines that wait at most; what comes when so many wait is dropped, and counted."""


class BackgroundWriter:
    """A text file whose lines are written by a thread: a full pipe stops the thread alone."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Takes a line, or drops it when too many wait."""
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._dropped += 1

    def flush(self) -> None:
        """For those who expect a file. Lines are written soon anyway."""

    def close(self) -> None:
        """Writes what is left; gives up after a second if nobody takes it."""
        self._closing.set()
        self._thread.join(1)

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(f"{dropped} log lines dropped\n")
        if lines:
            with suppress(OSError):  # Nobody reads any more, or the disk is full.
                self._file.write("".join(lines))
                self._file.flush()


class Threshold:
    """Drops what is below a level, which may change at any time."""

    level: Level = "info"

    def switch(self) -> None:
        """From debug to info, or back. Libraries stay at warning: their details may be secrets."""
        self.level = "info" if self.level == "debug" else "debug"
        structlog.get_logger("logs").info("level switched", to=self.level)

    def __call__(
        self, _logger: object, name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if name == "debug" and self.level != "debug":
            raise structlog.DropEvent
        return event


threshold = Threshold()


def set_up(style: str, level: Level = "info") -> None:
    """From now on structlog and logging write to stderr; style is console or json."""
    threshold.level = level
    renderer = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ
        )
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    writer = BackgroundWriter(sys.stderr)
    atexit.register(writer.close)
    structlog.configure(
        processors=[threshold, *shared, renderer],
        logger_factory=structlog.WriteLoggerFactory(writer),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    handler = logging.StreamHandler(writer)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
