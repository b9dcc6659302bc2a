"""The time limit of a call, for the threads that work for it."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class TimeLimit:
    """Limits the database's work for one call: threads cannot be stopped, statements can."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def remaining(self) -> float:
        """Returns the seconds left, at least 0; math.inf if there is no limit."""
        return max(0.0, self._ends - time.monotonic())

    def end(self) -> None:
        """Ends the limit now, from any thread: the call is over."""
        self._ends = -math.inf

    def check(self) -> None:
        """Raises TimeoutError if no time is left."""
        if not self.remaining():
            raise TimeoutError


UNLIMITED = TimeLimit(math.inf)
time_limit: ContextVar[TimeLimit] = ContextVar("time_limit", default=UNLIMITED)
"""The limit of the call that is being answered."""


@contextmanager
def time_limited(seconds: float) -> Iterator[None]:
    """Ends the database's work for this block with the block, and after `seconds` at most."""
    limit = TimeLimit(seconds)
    token = time_limit.set(limit)
    try:
        yield
    finally:
        limit.end()
        time_limit.reset(token)
