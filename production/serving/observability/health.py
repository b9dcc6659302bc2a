"""grpc.health.v1 for a server whose services are all healthy, until it drains.

Not grpcio-health-checking's servicer: it sends to watchers while holding a lock, so one watcher
that does not read blocks the others and the drain.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

Context = grpc.aio.ServicerContext[Any, Any]
NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
WATCH = f"/{NAME}/Watch"


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Reports SERVING for the services named, and for "", the server as a whole."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = {"", *services}
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Reports NOT_SERVING from now on, to watchers too."""
        self._draining.set()

    def _answer(self) -> HealthCheckResponse:
        if self._draining.is_set():
            return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)
        return HealthCheckResponse(status=HealthCheckResponse.SERVING)

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self._answer()

    async def Watch(
        self, request: HealthCheckRequest, _context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        is_known = request.service in self._services
        request.Clear()  # It may be a megabyte, and a watch lasts.
        if not is_known:
            yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
            await asyncio.Event().wait()
        yield self._answer()
        await self._draining.wait()
        yield self._answer()
        await asyncio.Event().wait()
