"""The layers that refuse calls when the server, or a caller's share of it, is full."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from production.serving.layers.adapter import Context
from production.serving.layers.deadline import PUBLIC_SECONDS
from production.serving.observability import health, metrics
from production.serving.overload import OverloadedError
from production.serving.security.authorization import Access
from production.serving.security.principal import principal

MAX_PUBLIC_CALLS, MAX_PUBLIC_WATCHES = 2_000, 5_000
"""Calls without credentials at a time, counted apart, so that strangers take nobody's place. They
are health checks; a client of ours watches our health once for each connection."""
MAX_PUBLIC_READS = 50
"""Requests without credentials that are being read at a time: each may fill 1 MiB."""
READ_SECONDS = 10
"""How long a caller may take to send a request."""


class Room:
    """Places for calls at the same time, shared between callers.

    One caller may have half of them. Once half are taken, by whomever, a caller may have a
    twentieth: so it takes ten more greedy callers to fill the room, and modest ones find a place.
    """

    def __init__(
        self, places: int, methods: Collection[str] = (), *, share: int = 0, low_share: int = 0
    ) -> None:
        """methods are those whose calls are counted here; the shares of a caller may be given."""
        self.methods = methods
        self.places = self._free = places
        self._share = share or math.ceil(places / 2)
        self._low_share = low_share or max(1, places // 20)
        self._taken: Counter[str] = Counter()

    def enter(self, caller: str) -> None:
        """Takes a place. Raises OverloadedError."""
        if self._free == 0:
            raise OverloadedError("server")
        share = self._share if self._free > self.places / 2 else self._low_share
        if self._taken[caller] >= share:
            raise OverloadedError("caller")
        self._free -= 1
        self._taken[caller] += 1

    def leave(self, caller: str) -> None:
        """Gives the place back."""
        self._free += 1
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]


class Admission:
    """Admits calls as long as there is room for their kind and for their caller."""

    def __init__(
        self, access: Access, rooms: Mapping[str, Room], counted: metrics.Admission
    ) -> None:
        """rooms are by kind; calls of methods that none of them names belong to "call"."""
        self._access = access
        self._rooms = rooms
        self._public = {
            "public call": Room(MAX_PUBLIC_CALLS, share=100, low_share=4),
            "public watch": Room(MAX_PUBLIC_WATCHES, {health.WATCH}, share=100, low_share=4),
        }
        self._counted = counted
        for kind, room in (*rooms.items(), *self._public.items()):
            counted.places.labels(kind).set(room.places)
            counted.taken.labels(kind)
            for limit in ("server", "caller"):
                counted.refused.labels(kind, limit)

    @asynccontextmanager
    async def __call__(self, method: str, context: Context) -> AsyncIterator[None]:
        if self._access.is_public(method):
            kind, room = _room_for(method, self._public, "public call")
            caller = context.peer()  # A connection: a client needs one watch, a proxy many.
        else:
            kind, room = _room_for(method, self._rooms, "call")
            caller = principal.get().name
        try:
            room.enter(caller)
        except OverloadedError as error:
            self._counted.refused.labels(kind, error.limit).inc()
            raise
        self._counted.taken.labels(kind).inc()

        def leave(_: Context) -> None:
            room.leave(caller)
            self._counted.taken.labels(kind).dec()

        # Not when the handler ends: while the caller does not read it, a response uses memory.
        context.add_done_callback(leave)  # type: ignore[arg-type]  # Its stub lacks "Protocol".
        yield


class Reading:
    """Limits how long a request is read and, without credentials, how many are read at a time.

    An honest request of a few bytes comes with its call. So if too many are being read, the one
    that has been read longest is given up, and strangers who stall can keep nobody out.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._public: dict[asyncio.Timeout, None] = {}  # In the order of their beginning.

    @asynccontextmanager
    async def __call__(self, method: str, _context: Context) -> AsyncIterator[None]:
        if not self._access.is_public(method):
            async with asyncio.timeout(READ_SECONDS):
                yield
            return
        if len(self._public) == MAX_PUBLIC_READS:
            oldest = next(iter(self._public))
            del self._public[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())
        async with asyncio.timeout(PUBLIC_SECONDS) as limit:
            self._public[limit] = None
            try:
                yield
            finally:
                self._public.pop(limit, None)


def _room_for(method: str, rooms: Mapping[str, Room], default: str) -> tuple[str, Room]:
    for kind, room in rooms.items():
        if method in room.methods:
            return kind, room
    return default, rooms[default]
