"""Ends a web application's work with its request: after a budget, or when the client leaves."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from production.calling.budget import budget

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Budget:
    """Middleware for an ASGI application: `app.add_middleware(Budget, seconds=1.0)` in FastAPI.

    All calls made for one request together have `seconds`. When the client disconnects, the
    request's handler is cancelled, and with it the call that it awaits; by itself uvicorn 0.54 lets
    both run to their end. https://asgi.readthedocs.io/en/latest/specs/www.html
    """

    def __init__(self, app: Application, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # One place, so that the body is not read ahead of the application.
        messages: asyncio.Queue[Message] = asyncio.Queue(1)

        async def send_and_finish(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                listener.cancel()  # From here on, "disconnected" is said of every client.

        with budget(self._seconds):
            work = asyncio.ensure_future(self._app(scope, messages.get, send_and_finish))
        listener = asyncio.create_task(_cancel_when_disconnected(work, receive, messages))
        try:
            await work
        except asyncio.CancelledError:
            if not _left(listener):
                raise
        finally:
            listener.cancel()


async def _cancel_when_disconnected(
    work: asyncio.Future[None], receive: Receive, messages: asyncio.Queue[Message]
) -> None:
    """Passes on what the client sends. Cancels the work when the client disconnects."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            work.cancel()
            return
        await messages.put(message)


def _left(listener: asyncio.Task[None]) -> bool:
    """Returns whether the listener has ended because the client has left."""
    return listener.done() and not listener.cancelled() and not listener.exception()
