"""Fixtures: a scripted server, and the client under test connected to it."""

import os
from collections.abc import Callable, Iterator

import grpc
import pytest

from production.lessons.testing.names_client import OPTIONS, Names
from production.lessons.testing.scripted_server import ScriptedServer
from production.v1.contacts_pb2 import DESCRIPTOR

os.environ["no_grpc_proxy"] = "127.0.0.1"  # gRPC would send even these calls to an http_proxy.
MAX_PAUSES = 10


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(DESCRIPTOR.services_by_name["ContactService"]) as server:
        yield server


@pytest.fixture
def channel(server: ScriptedServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address, OPTIONS) as channel:
        yield channel


@pytest.fixture
def pauses() -> list[float]:
    """The seconds that the client has paused."""
    return []


@pytest.fixture
def pause(pauses: list[float]) -> Callable[[float], None]:
    """Records a pause instead of sleeping; a client that never gives up fails."""

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        assert len(pauses) < MAX_PAUSES

    return pause


@pytest.fixture
def names(channel: grpc.Channel, pause: Callable[[float], None]) -> Names:
    return Names(channel, pause=pause)
