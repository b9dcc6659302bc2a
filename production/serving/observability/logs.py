"""Writes log lines to stderr, for people or as JSON, without ever blocking a call."""

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
"""Seconds between writes; the lines of an interval are written together."""
MAX_LINES = 10_000
"""The most lines that may wait. Further ones are dropped and counted."""


class BackgroundWriter:
    """A text file whose lines are written by a thread: a full pipe blocks nothing else."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queues a line, or drops it if too many wait."""
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._dropped += 1

    def flush(self) -> None:
        """Does nothing; loggers call it. Lines are written soon anyway."""

    def close(self) -> None:
        """Writes the remaining lines; gives up after a second."""
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
            with suppress(OSError):  # The reader is gone, or the disk is full.
                self._file.write("".join(lines))
                self._file.flush()


class Threshold:
    """Drops lines below a level, which may change at any time."""

    level: Level = "info"

    def switch(self) -> None:
        """Switches between debug and info. Libraries stay at warning: they may log secrets."""
        self.level = "info" if self.level == "debug" else "debug"
        structlog.get_logger("logs").info("level switched", to=self.level)

    def __call__(
        self, _logger: object, name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if name == "debug" and self.level != "debug":
            raise structlog.DropEvent
        return event


threshold = Threshold()


def escape(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escapes what is not printable: no text that a caller sends can begin a line of its own.

    The further lines of a traceback are indented.
    """
    for key, value in event.items():
        if key == "exception":
            event[key] = "\n".join(f"    {_printable(line)}" for line in value.split("\n"))
        elif isinstance(value, str):
            event[key] = _printable(value)
    return event


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def holds_no_metadata(record: logging.LogRecord) -> bool:
    """Filters the lines in which gRPC quotes metadata that is not UTF-8, tokens too."""
    return not str(record.msg).startswith("Invalid encoding on")


def set_up(style: str, level: Level = "info") -> None:
    """Makes structlog and logging write to stderr; style is console or json."""
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
        escape,
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
    # Both quote metadata, before anybody has authenticated the caller.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    logging.getLogger("grpc._cython.cygrpc").addFilter(holds_no_metadata)
