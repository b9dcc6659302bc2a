"""The layer that ends calls at a deadline or when the server stops."""

import asyncio
import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Self

from production.serving.layers.adapter import Context
from production.serving.security.authorization import Access
from production.serving.storage.time_limit import time_limited

PUBLIC_SECONDS = 2
"""The longest deadline of calls that need no credentials."""


drained: ContextVar[bool] = ContextVar("drained", default=False)
"""Whether the drain has ended this call, or not let it begin."""


class DrainingError(Exception):
    """The server is shutting down."""

    @classmethod
    def of_this_call(cls) -> Self:
        """Makes the error, and marks this call as drained."""
        drained.set(True)
        return cls()


class Deadline:
    """Ends calls at the caller's deadline, at the server's, or, watches, when the server stops."""

    def __init__(
        self, access: Access, watches: Collection[str], default: float, maximum: float
    ) -> None:
        """default and maximum are seconds; watches are exempt until `end_watches`."""
        self._access = access
        self._watches = watches
        self._default = default
        self._maximum = maximum
        self._open: set[asyncio.Timeout] = set()
        self._draining = False

    def end_watches(self) -> None:
        """Ends all watches, and refuses new ones."""
        self._draining = True
        for watch in self._open:
            watch.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def __call__(self, method: str, context: Context) -> AsyncIterator[None]:
        if method in self._watches:
            if self._draining:
                raise DrainingError.of_this_call()
            async with self._watch():
                yield
            return
        remaining = context.time_remaining()
        wanted = self._default if remaining is None else remaining
        seconds = min(wanted, self._maximum)
        if self._access.is_public(method):
            seconds = min(seconds, PUBLIC_SECONDS)
        with time_limited(seconds):
            async with asyncio.timeout(seconds):
                yield

    @asynccontextmanager
    async def _watch(self) -> AsyncIterator[None]:
        watch = asyncio.timeout(None)
        try:
            async with watch:
                self._open.add(watch)
                try:
                    with time_limited(math.inf):
                        yield
                finally:
                    self._open.discard(watch)
        except TimeoutError:
            if watch.expired():
                raise DrainingError.of_this_call() from None
            raise
