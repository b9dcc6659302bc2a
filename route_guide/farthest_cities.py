"""Shows what a long computation does after its client has gone, with and without is_active().

Run it; it starts servers of its own:

    python -m route_guide.farthest_cities
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from time import monotonic

import grpc

from route_guide.command_line import point_at
from route_guide.geography import distance
from route_guide.messages import from_place, to_rectangle
from route_guide.places import Place, Places
from route_guide.route_guide_pb2 import Feature, Rectangle
from route_guide.route_guide_pb2_grpc import RouteGuideStub, add_RouteGuideServicer_to_server
from route_guide.route_guide_server import RouteGuide

NORTH = Rectangle(lo=point_at(30, -180), hi=point_at(90, 180))
"""All 2,272 cities north of the 30th parallel, which make 2.6 million pairs."""
TIMEOUT = 0.3
"""Seconds that the client waits. The computation takes longer."""


def farthest_apart(cities: Sequence[Place], is_wanted: Callable[[], bool]) -> list[Place]:
    """Compares all pairs; returns the two cities farthest apart, or nothing if it is not wanted."""
    farthest: list[Place] = []
    longest = -1.0
    for index, one in enumerate(cities):
        if not is_wanted():
            return []
        for other in cities[:index]:
            metres = distance(one.point, other.point)
            if metres > longest:
                farthest, longest = [other, one], metres
    return farthest


class FarthestCities(RouteGuide):
    """Lists only the two cities of a rectangle that are farthest apart."""

    def __init__(self, places: Places, checks: bool) -> None:
        super().__init__(places)
        self._checks = checks
        self.worked: SimpleQueue[float] = SimpleQueue()
        """The seconds that each call took."""

    def ListFeatures(self, request: Rectangle, context: grpc.ServicerContext) -> Iterator[Feature]:
        started = monotonic()
        cities = list(self._places.within(to_rectangle(request)))
        is_wanted = context.is_active if self._checks else lambda: True
        farthest = farthest_apart(cities, is_wanted)
        self.worked.put(monotonic() - started)
        yield from map(from_place, farthest)


def show(checks: bool) -> None:
    """Calls a server, gives up, and waits until its handler ends."""
    servicer = FarthestCities(Places.load(), checks)
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    add_RouteGuideServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        started = monotonic()
        try:
            list(RouteGuideStub(channel).ListFeatures(NORTH, timeout=TIMEOUT))
        except grpc.RpcError as error:
            waited = monotonic() - started
            print(f"  the client gave up after {waited:.1f} s: {error.code().name}")
        print(f"  the handler worked for {servicer.worked.get():.1f} s")
    server.stop(grace=10).wait()


def main() -> None:
    argparse.ArgumentParser(description="Give up on a long computation.").parse_args()
    print("a handler that does not check:")
    show(checks=False)
    print("a handler that calls context.is_active():")
    show(checks=True)


if __name__ == "__main__":
    main()
