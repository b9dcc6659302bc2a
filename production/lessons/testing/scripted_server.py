"""A gRPC server for the tests of code that calls: it follows a script, and records its callers.

    with ScriptedServer(DESCRIPTOR.services_by_name["ContactService"]) as server:
        server.script("GetContact", [fail(UNAVAILABLE)], [Contact(name="contacts/ada")])

A script has one list of steps for each attempt, in the order in which attempts arrive. A step is a
message, which is sent, or a function that is called with the Attempt: fail(code), hold, read, or
one of your own.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PATIENCE = 10.0
"""Seconds after which hold lets a call continue, so that a test without a deadline ends."""
A_DAY = 86_400.0
"""Seconds. For a call without a deadline, gRPC reports centuries."""


@dataclass
class Attempt:
    """One attempt of a call, as the server saw it."""

    method: str
    metadata: dict[str, str | bytes]
    seconds_left: float | None
    """Until the deadline when the attempt arrived, None without one."""
    context: grpc.ServicerContext
    incoming: Iterator[Any]
    requests: list[Any] = field(default_factory=list)
    """What was read. The request of a call with only one is read before the first step."""
    ended: threading.Event = field(default_factory=threading.Event)
    """Set once the call is over for the server, for whatever reason."""

    @property
    def number(self) -> int:
        """Counts the attempts that gRPC itself makes of one call, from 1."""
        return 1 + int(self.metadata.get("grpc-previous-rpc-attempts", 0))


Step = Message | Callable[[Attempt], object]


def fail(code: grpc.StatusCode, details: str = "") -> Step:
    """Returns a step that ends the call with an error."""

    def abort(attempt: Attempt) -> NoReturn:
        attempt.context.abort(code, details)

    return abort


def hold(attempt: Attempt) -> None:
    """Waits until the caller has given up, or the server stops: the answer that comes too late."""
    attempt.ended.wait(PATIENCE)


def read(attempt: Attempt) -> None:
    """Reads a stream of requests to its end. Without this step the server answers unasked."""
    attempt.requests.extend(attempt.incoming)


class ScriptedServer(grpc.GenericRpcHandler):
    """Serves one service on a free port of this machine, within a with block."""

    def __init__(self, service: ServiceDescriptor) -> None:
        self._methods = {
            f"/{service.full_name}/{name}": m for name, m in service.methods_by_name.items()
        }
        self._scripts: dict[str, deque[Sequence[Step]]] = defaultdict(deque)
        self.attempts: list[Attempt] = []
        """In the order of their arrival."""

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(thread_name_prefix="scripted")
        self._server = grpc.server(self._pool, [self], options=[("grpc.so_reuseport", 0)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()

    def script(self, method: str, *attempts: Sequence[Step]) -> None:
        """Adds the steps of the next attempts of a method, such as GetContact."""
        self._scripts[method].extend(attempts)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """Finds a method. All are served as streams: on the wire, one message is a short stream."""
        if not (method := self._methods.get(details.method)):
            return None
        return grpc.stream_stream_rpc_method_handler(
            partial(self._answer, method),
            request_deserializer=GetMessageClass(method.input_type).FromString,
        )

    def _answer(
        self, method: MethodDescriptor, requests: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        left = context.time_remaining()
        metadata = dict(context.invocation_metadata())
        attempt = Attempt(method.name, metadata, left if left < A_DAY else None, context, requests)
        if not context.add_callback(attempt.ended.set):
            attempt.ended.set()
        self.attempts.append(attempt)
        if not method.client_streaming:
            read(attempt)
        for step in self._next_steps(method.name):
            if isinstance(step, Message):
                yield step.SerializeToString()
            else:
                step(attempt)

    def _next_steps(self, method: str) -> Sequence[Step]:
        try:
            return self._scripts[method].popleft()  # Two threads never get the same.
        except IndexError:
            return [fail(grpc.StatusCode.UNIMPLEMENTED, f"no script for another {method}")]
