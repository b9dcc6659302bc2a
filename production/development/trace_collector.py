"""Collects traces: OTLP, the protocol of spans, is itself a gRPC service, and exists for HTTP, too.

Run it, then configure a client and a server with its address; Ctrl-C prints the traces:

    python -m production.development.trace_collector --address 127.0.0.1:4317
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 OTEL_TRACES_SAMPLER_ARG=1 \
        python -m production.contacts_server --plaintext

Production runs the OpenTelemetry Collector here, in front of a store such as Jaeger or Tempo.
"""

import argparse
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from production.calling import addresses
from production.development.serving import serve_until_signal


class Collector(TraceServiceServicer):
    """Keeps spans, each with the name of the service it came from."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []

    def Export(
        self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self.collect(request)
        return ExportTraceServiceResponse()

    def collect(self, request: ExportTraceServiceRequest) -> None:
        """Keeps the spans of a request."""
        for of_resource in request.resource_spans:
            service = value(of_resource.resource.attributes, "service.name")
            for of_scope in of_resource.scope_spans:
                self.spans += [(service, span) for span in of_scope.spans]

    def lines(self, parent: bytes = b"", depth: int = 0) -> Iterator[str]:
        """Yields one line per span, below its parent, in the order in which they began."""
        for service, span in sorted(self.spans, key=lambda kept: kept[1].start_time_unix_nano):
            if span.parent_span_id == parent:
                status = value(span.attributes, "rpc.response.status_code")
                ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
                yield f"{'  ' * depth}{service}  {span.name}  {status}  {ms:.1f} ms"
                yield from self.lines(span.span_id, depth + 1)


def value(attributes: Iterable[KeyValue], key: str) -> str:
    """Returns the text of an attribute, "" if it is not set."""
    return next((found.value.string_value for found in attributes if found.key == key), "")


def start(address: str, collector: Collector) -> tuple[grpc.Server, int]:
    """Starts a server on HOST:PORT; returns it and its port. Raises RuntimeError."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def start_http(address: str, collector: Collector) -> ThreadingHTTPServer:
    """Starts a server for the protocol http/protobuf on HOST:PORT. Raises OSError."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            is_right = self.path == "/v1/traces"
            if is_right:
                collector.collect(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if is_right else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Does not log each request."""

    host, _, port = address.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description="Collect spans; print traces on Ctrl-C.")
    parser.add_argument(
        "--address", type=addresses.address, default="127.0.0.1:4317", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--http-address",
        type=addresses.address,
        help="for http/protobuf, usually 127.0.0.1:4318",
    )
    args = parser.parse_args()
    collector = Collector()

    def start_all(address: str) -> tuple[grpc.Server, int]:
        if args.http_address:
            start_http(args.http_address, collector)
        return start(address, collector)

    serve_until_signal(start_all, args.address, grace=1)
    for line in collector.lines():
        print(line)


if __name__ == "__main__":
    main()
