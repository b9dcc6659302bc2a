"""Wakes watchers. One query serves all of them, so that a thousand cost as much as one."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

POLL_SECONDS = 0.2
"""The longest time until a watcher sees a change, whichever process made it."""


class ChangePoller:
    """All watchers of a process."""

    def __init__(self, newest: Callable[[set[str]], Awaitable[dict[str, int]]]) -> None:
        """newest returns the position of each owner's newest change."""
        self._newest = newest
        self._waiting: dict[asyncio.Future[None], tuple[str, int]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def wait(self, owner: str, position: int) -> None:
        """Returns when the position is not that of the owner's newest change. Raises as newest."""
        woken = asyncio.get_running_loop().create_future()
        self._waiting[woken] = (owner, position)
        if self._polling is None:
            # In a context of its own, because one watcher's time limit must not stop the others.
            self._polling = asyncio.create_task(self._poll(), context=Context())
        try:
            await woken
        finally:
            del self._waiting[woken]
            if self._polling and not self._waiting:
                self._polling.cancel()
                self._polling = None

    async def _poll(self) -> None:
        """Queries and wakes until it is cancelled, when the last watcher leaves."""
        while True:
            try:
                newest = await self._newest({owner for owner, _ in self._waiting.values()})
            except Exception as error:  # noqa: BLE001 - raised in the watchers.
                for woken in self._waiting:
                    _settle(woken, error)
            else:
                for woken, (owner, position) in self._waiting.items():
                    if newest.get(owner, 0) != position:  # Less: the owner was erased.
                        _settle(woken)
            await asyncio.sleep(POLL_SECONDS)


def _settle(woken: asyncio.Future[None], error: Exception | None = None) -> None:
    if woken.done():  # Its watcher has left, or is about to run.
        return
    if error:
        woken.set_exception(error)
    else:
        woken.set_result(None)
