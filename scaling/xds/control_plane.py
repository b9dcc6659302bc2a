"""An xDS control plane (ADS, state of the world): sends what is in a file, after each change again.

Run it, with the Python that has xds-protos (`make engines` installs it):

    xds-python -m scaling.xds.control_plane --port 18000 build/echo.yaml

It keeps the last good state. Production needs TLS and authentication: it decides where calls go.
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import ParseDict, ParseError

from production.calling import addresses
from production.development.serving import serve_until_signal

try:
    import yaml

    # What a file may name as "@type" has to be imported. Bootstrap brings listeners and clusters.
    from envoy.config.bootstrap.v3 import bootstrap_pb2  # noqa: F401
    from envoy.extensions.filters.http.fault.v3 import fault_pb2  # noqa: F401
    from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
    from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
        http_connection_manager_pb2,
    )
    from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401
    from envoy.service.discovery.v3 import ads_pb2_grpc
    from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: use xds-python, which `make engines` installs")

CLIENTS = 64  # At a time. Each occupies a thread as long as it is connected.
INTERVAL = 0.1  # Seconds between two looks at the file.
KINDS = {  # In the order of sending: a route comes after the clusters that it names.
    "type.googleapis.com/envoy.config.cluster.v3.Cluster": "clusters",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment": "endpoints",
    "type.googleapis.com/envoy.config.listener.v3.Listener": "listeners",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration": "routes",
}
Named = dict[str, Any]  # The resources of a type, by name.


def parse(content: bytes) -> dict[str, Named]:
    """Reads the resources of a file, by type. Raises ValueError with one line on what is wrong."""
    found: dict[str, Named] = {url: {} for url in KINDS}
    try:
        listed = yaml.safe_load(content)
        if not isinstance(listed, list) or {*map(type, listed)} != {dict}:
            raise ValueError("it is not a list of resources")
        for each in listed:
            resource = ParseDict(each, Any())
            if resource.type_url not in KINDS:
                raise ValueError(f"clients cannot subscribe to {resource.type_url or each}")
            name = each.get("name") or each.get("cluster_name")
            if not name or name in found[resource.type_url]:
                raise ValueError(f"a name is missing or not unique: {name}")
            found[resource.type_url][name] = resource
    except (ParseError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    return found


@dataclass
class Subscription:
    """What a client wants of a type, and what it was sent last."""

    is_wildcard: bool
    names: set[str] = field(default_factory=set)
    version: str = ""
    nonce: str = ""
    is_answered: bool = True


class Stream:
    """One client: its subscriptions by type, and the responses that are due."""

    def __init__(self) -> None:
        self._client, self._nonce = "", 0
        self._subscriptions: dict[str, Subscription] = {}
        self.has_ended = False

    def receive(self, request: DiscoveryRequest) -> None:
        """Notes what a request subscribes to, and reports what it accepts (ACK) or not (NACK)."""
        self._client = request.node.id or self._client  # Only the first request has it.
        url, names = request.type_url, set(request.resource_names)
        asked = self._subscriptions.setdefault(url, Subscription(is_wildcard=not names))
        if request.response_nonce not in ("", asked.nonce):
            return  # It is about an earlier response. One about the last will come.
        if not asked.is_answered and request.HasField("error_detail"):
            what = f"{KINDS[url]} version {asked.version}, keeps {request.version_info or 'none'}"
            logging.info("%s: NACK %s: %s", self._client, what, request.error_detail.message)
        elif not asked.is_answered:
            logging.info("%s: ACK %s version %s", self._client, KINDS[url], asked.version)
        asked.is_answered = True
        if names - asked.names:
            asked.version = ""
        asked.names, asked.is_wildcard = names, asked.is_wildcard and not names

    def due(self, state: dict[str, Named], version: str) -> Iterator[DiscoveryResponse]:
        """Yields a response for each type if there is a new version, or if the client wants more.
        All types, because an Envoy that replaces a cluster waits for its endpoints."""
        for url, kind in KINDS.items():
            if (asked := self._subscriptions.get(url)) and asked.version != version:
                names = sorted(n for n in state[url] if asked.is_wildcard or n in asked.names)
                self._nonce += 1
                asked.nonce, asked.version, asked.is_answered = str(self._nonce), version, False
                sent = ", ".join(names) or "none"
                logging.info("%s: sent %s version %s: %s", self._client, kind, version, sent)
                response = DiscoveryResponse(type_url=url, resources=map(state[url].get, names))
                response.version_info, response.nonce = version, asked.nonce
                yield response


class ControlPlane(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    """Sends the last good state of a file to each client."""

    def __init__(self, path: Path) -> None:
        """Reads the file. Raises OSError or ValueError."""
        self._path, self._content = path, path.read_bytes()
        self._state, self._version = parse(self._content), 1
        self._changed = threading.Condition()  # The state, or what a stream has received.

    def watch(self) -> None:
        """Loads the file after each change of its content. Does not return."""
        now = self._content
        while True:
            time.sleep(INTERVAL)
            before, now = now, b""
            with suppress(OSError):
                now = self._path.read_bytes()
            if now != before or now == self._content:
                continue  # It is being written, or has not changed.
            self._content = now
            try:
                state = parse(now)
            except ValueError as error:
                logging.error("refused: %s; version %d stays", error, self._version)
                continue
            with self._changed:
                self._state, self._version = state, self._version + 1
                self._changed.notify_all()
            logging.info("version %d", self._version)

    def StreamAggregatedResources(
        self, requests: Iterator[DiscoveryRequest], _: grpc.ServicerContext
    ) -> Iterator[DiscoveryResponse]:
        stream = Stream()
        threading.Thread(target=self._receive, args=(requests, stream), daemon=True).start()
        while True:
            with self._changed:
                while not (due := [*stream.due(self._state, str(self._version))]):
                    if stream.has_ended:
                        return
                    self._changed.wait()
            yield from due

    def _receive(self, requests: Iterator[DiscoveryRequest], stream: Stream) -> None:
        with suppress(grpc.RpcError):
            for request in requests:
                with self._changed:
                    stream.receive(request)
                    self._changed.notify_all()
        with self._changed:
            stream.has_ended = True
            self._changed.notify_all()


def main() -> None:
    parser = argparse.ArgumentParser(description="Send xDS resources from a file, as it changes.")
    parser.add_argument("file", type=Path, help="a list of xDS resources in YAML")
    parser.add_argument("--port", type=addresses.port, default=18000, help="(default: %(default)s)")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)

    def start(address: str) -> tuple[grpc.Server, int]:
        plane = ControlPlane(args.file)
        server = grpc.server(ThreadPoolExecutor(CLIENTS), options=[("grpc.so_reuseport", 0)])
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(plane, server)
        port = server.add_insecure_port(address)
        server.start()
        threading.Thread(target=plane.watch, daemon=True).start()
        return server, port

    serve_until_signal(start, f"127.0.0.1:{args.port}", grace=0)  # Streams have no end to wait for.


if __name__ == "__main__":
    main()
