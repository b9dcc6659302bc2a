"""Passes the time that one's own caller has left on to the calls that are made for it.

In a servicer of gRPC, sync or asyncio, and in a web application:

    with budget(context.time_remaining()):
        contact = await client.get("contacts/ada-1")

    with budget(1.0):
        contact = await client.get("contacts/ada-1")

A budget holds for the task or thread that sets it, for the tasks that this one starts, and for
`asyncio.to_thread`.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_end: ContextVar[float] = ContextVar("_end", default=math.inf)
"""When the budget ends, by time.monotonic()."""


@contextmanager
def budget(seconds: float | None) -> Iterator[None]:
    """Limits all calls made in this block, together, to `seconds`; None does not limit them.

    If blocks are nested, the one that ends first counts.
    """
    token = _end.set(min(_end.get(), _after(seconds)))
    try:
        yield
    finally:
        _end.reset(token)


def remaining() -> float | None:
    """Returns the seconds that are left, below 0 when they are spent; None without a budget."""
    return None if _end.get() == math.inf else _end.get() - time.monotonic()


def within(timeout: float | None) -> float | None:
    """Returns the timeout of a call in seconds: its own, or what is left if that is less."""
    left = remaining()
    if left is None or timeout is None:
        return timeout if left is None else left
    return min(timeout, left)


def countdown(seconds: float | None) -> Callable[[], float | None]:
    """Returns a function that returns how much of these seconds is left, or None if it was None."""
    end = _after(seconds)
    return lambda: None if end == math.inf else end - time.monotonic()


def _after(seconds: float | None) -> float:
    return math.inf if seconds is None else time.monotonic() + seconds
