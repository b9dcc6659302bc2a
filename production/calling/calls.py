"""Begins a client's calls: options, budget, credentials, traces and errors, in one place."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypedDict, TypeVar

import grpc

from production.calling import tracing
from production.calling.budget import countdown, within
from production.calling.channels import channel_options
from production.calling.errors import CallError

FAULTS = frozenset(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)
"""The status codes that count as errors in a client's traces."""
CALL_SECONDS = 10.0
STREAM_SECONDS = 60.0
"""The timeout of a call with its retries. It is not in the service config: from there, gRPC ends
calls up to two seconds too early, and does not send the deadline to the server (grpc#40633)."""
UNAVAILABLE, UNAUTHENTICATED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED

Metadata = tuple[tuple[str, str | bytes], ...]


class PageRequest(Protocol):
    """A request for a page of a list (https://google.aip.dev/158)."""

    page_token: str


class Page(Protocol):
    """A page of a list."""

    next_page_token: str


class Positioned(Protocol):
    """A change with its position, or a request for the changes after one."""

    position: str


Call = TypeVar("Call", bound=grpc.aio.Call)
Response = TypeVar("Response")
APage = TypeVar("APage", bound=Page)
Change = TypeVar("Change", bound=Positioned)


class CallOptions(TypedDict, total=False):
    """What every method of a client takes by keyword."""

    timeout: float | None
    """Seconds for all of the method; None is the default. In a `budget`, less counts."""
    metadata: Metadata
    credentials: grpc.CallCredentials | None
    """Sent instead of the client's own call credentials."""


class Calls:
    """The channel to a service, and how each call on it begins and ends."""

    def __init__(
        self,
        service: str,
        error: type[CallError],
        closed: type[CallError],
        address: str,
        credentials: grpc.ChannelCredentials | None,
        call_credentials: grpc.CallCredentials | None,
    ) -> None:
        """A call that fails raises error; if the client is closed, closed, a subclass of error.

        Raises ValueError for call_credentials without credentials.
        """
        options = channel_options(service)
        self.channel = (
            grpc.aio.secure_channel(address, credentials, options)
            if credentials
            else grpc.aio.insecure_channel(address, options)
        )
        self._service, self._error, self._closed_error = service, error, closed
        self._secure = credentials is not None
        self._credentials = self._sendable(call_credentials)
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        await self.channel.close()

    async def ask(
        self,
        method: Callable[..., grpc.aio.UnaryUnaryCall[Any, Response]],
        request: object,
        options: CallOptions,
    ) -> Response:
        """Makes a call that has one request and one response. Raises what begin raises."""
        with self.begin(method, _name(request), request, default=CALL_SECONDS, **options) as call:
            return await call

    async def pages(
        self,
        method: Callable[..., grpc.aio.UnaryUnaryCall[Any, APage]],
        request: PageRequest,
        options: CallOptions,
    ) -> AsyncGenerator[APage, None]:
        """Yields all pages of a list, each fetched when it is needed. Raises what begin raises.

        A timeout is for all of them together; by default each has its own.
        """
        left = countdown(options.get("timeout"))
        while True:
            options["timeout"] = left()
            page = await self.ask(method, request, options)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(
        self,
        method: Callable[..., grpc.aio.UnaryStreamCall[Any, Change]],
        request: Positioned,
        options: CallOptions,
    ) -> AsyncGenerator[Change, None]:
        """Yields changes as they happen, until the iterator is closed. Raises what begin raises.

        When a server goes away, or the token expires, it resumes after the last change, with the
        next server and the next token; a token that is not accepted ends it. A watch that has never
        begun fails like any call, except that it waits for a server.
        """
        left = countdown(options.get("timeout"))
        ever_begun = False
        while True:
            options["timeout"] = left()
            begun = False
            try:
                with self.begin(
                    method, _name(request), request, default=None, wait_for_ready=True, **options
                ) as call:
                    async for change in call:
                        begun = ever_begun = True
                        request.position = change.position
                        yield change
            except self._error as error:
                expired = begun and error.code == UNAUTHENTICATED
                if not (expired or (ever_begun and error.code == UNAVAILABLE)):
                    raise

    @contextmanager
    def begin(
        self,
        method: Callable[..., Call],
        name: str,
        *request: object,
        default: float | None,
        timeout: float | None = None,
        metadata: Metadata = (),
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
    ) -> Iterator[Call]:
        """Yields a call, and cancels what is left of it when the block ends.

        gRPC does not do so when its iterator is dropped (grpc#43462). Raises the client's errors,
        and ValueError for options that can never be sent. default is in seconds.
        """
        credentials = self._sendable(credentials or self._credentials)
        _check(metadata)
        with self._traced(name) as trace:
            seconds = within(default if timeout is None else timeout)
            if seconds is not None and seconds <= 0:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise self._error(code, "no time is left for the call")
            call = method(
                *request,
                timeout=seconds,
                metadata=(*metadata, *trace),
                credentials=credentials,
                wait_for_ready=wait_for_ready,
            )
            try:
                yield call
            finally:
                call.cancel()

    def _sendable(self, credentials: grpc.CallCredentials | None) -> grpc.CallCredentials | None:
        """Raises ValueError where gRPC would raise a UsageError of its core."""
        if credentials and not self._secure:
            raise ValueError("credentials are not sent unencrypted")
        return credentials

    @contextmanager
    def _traced(self, method: str) -> Iterator[Metadata]:
        """Traces a call: yields the metadata to send. Turns gRPC's errors into the client's."""
        span, metadata = tracing.call(f"{self._service}/{method}")
        status = "CANCELLED"
        try:
            if self._closed:
                raise self._after_close()
            yield metadata
            status = "OK"
        except grpc.aio.AioRpcError as error:
            ours = self._error.of(error)
            status = ours.code.name
            raise ours from error
        except self._error as error:
            status = error.code.name
            raise
        except asyncio.CancelledError as error:
            # When the channel is closed, gRPC raises it in a task that nobody has cancelled.
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                raise self._after_close() from error
            raise
        finally:
            tracing.end(span, status, FAULTS)

    def _after_close(self) -> CallError:
        return self._closed_error(grpc.StatusCode.FAILED_PRECONDITION, "the client is closed")


def _name(request: object) -> str:
    """Returns the name of the method that takes a request (https://google.aip.dev/131)."""
    return type(request).__name__.removesuffix("Request")


def _check(metadata: Metadata) -> None:
    """Raises ValueError for metadata that gRPC would refuse with an error of its core."""
    for key, value in metadata:
        fits = isinstance(value, bytes if key.endswith("-bin") else str)
        if not re.fullmatch(r"[0-9a-z_.-]+", key) or not fits:
            raise ValueError(f"metadata: {key!r} must be lower case, and bytes if it ends in -bin")
        if isinstance(value, str) and not re.fullmatch(r"[ -~]*", value):
            raise ValueError(f"metadata: the value of {key!r} must be printable ASCII")
