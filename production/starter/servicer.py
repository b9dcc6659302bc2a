"""Implements ParcelService. Each call runs one method of the rules in a thread."""

from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from production.serving.security.principal import principal
from production.serving.storage.change_poller import ChangePoller
from production.serving.storage.database import Database
from production.serving.storage.in_thread import InThread
from production.serving.storage.writes import newest, position_to_watch
from production.starter.parcels import Parcels
from production.starter.v1.parcels_pb2 import (
    CreateParcelRequest,
    DeleteParcelRequest,
    GetParcelRequest,
    ListParcelsRequest,
    ListParcelsResponse,
    Parcel,
    UpdateParcelRequest,
    WatchParcelsRequest,
    WatchParcelsResponse,
)
from production.starter.v1.parcels_pb2_grpc import ParcelServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class ParcelServicer(ParcelServiceServicer):
    """Answers for the calling principal."""

    def __init__(self, database: Database, threads: Executor, most: int) -> None:
        """threads runs what uses the database; most is as in Parcels."""
        self._database = database
        self._run = InThread(threads)
        self._parcels = Parcels(database, most)
        self._poller = ChangePoller(lambda owners: self._run(newest, database, owners))

    async def CreateParcel(self, request: CreateParcelRequest, _context: Context) -> Parcel:
        return await self._run(self._parcels.create, principal.get().name, request)

    async def GetParcel(self, request: GetParcelRequest, _context: Context) -> Parcel:
        return await self._run(self._parcels.get, principal.get().name, request.name)

    async def ListParcels(
        self, request: ListParcelsRequest, _context: Context
    ) -> ListParcelsResponse:
        return await self._run(self._parcels.page, principal.get().name, request)

    async def UpdateParcel(self, request: UpdateParcelRequest, _context: Context) -> Parcel:
        return await self._run(self._parcels.update, principal.get().name, request)

    async def DeleteParcel(self, request: DeleteParcelRequest, _context: Context) -> Empty:
        await self._run(self._parcels.delete, principal.get().name, request)
        return Empty()

    async def WatchParcels(
        self, request: WatchParcelsRequest, _context: Context
    ) -> AsyncIterator[WatchParcelsResponse]:
        owner = principal.get().name
        position = await self._run(position_to_watch, self._database, owner, request.position)
        yield WatchParcelsResponse(kind=WatchParcelsResponse.KIND_STARTED, position=str(position))
        while True:
            changes = await self._run(self._parcels.changes, owner, position)
            for change in changes:
                yield change
                position = int(change.position)
            if not changes:
                await self._poller.wait(owner, position)
