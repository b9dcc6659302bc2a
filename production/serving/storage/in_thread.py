"""Runs work that blocks, such as the database's, beside the event loop."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InThread:
    """Runs work in a thread, with the call's context, which holds its time limit."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads

    async def __call__(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        return await loop.run_in_executor(
            self._threads, partial(context.run, work, *args, **kwargs)
        )
