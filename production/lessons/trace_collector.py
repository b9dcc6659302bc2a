"""A collector of traces: OTLP, by which spans travel, is itself a gRPC service.

Run it, then name it to a client and a server; Ctrl-C prints the traces that have come:

    python -m production.lessons.trace_collector --address 127.0.0.1:4317
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317 OTEL_TRACES_SAMPLER_ARG=1 \
        python -m production.contacts_server --plaintext

Production runs the OpenTelemetry Collector here, in front of a store such as Jaeger or Tempo.
"""

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

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

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Collector(TraceServiceServicer):
    """Keeps spans, each with the name of the service it came from."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []

    def Export(
        self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        for of_resource in request.resource_spans:
            service = value(of_resource.resource.attributes, "service.name")
            for of_scope in of_resource.scope_spans:
                self.spans += [(service, span) for span in of_scope.spans]
        return ExportTraceServiceResponse()

    def lines(self, parent: bytes = b"", depth: int = 0) -> Iterator[str]:
        """One line a span, below its parent, in the order in which they began."""
        for service, span in sorted(self.spans, key=lambda kept: kept[1].start_time_unix_nano):
            if span.parent_span_id == parent:
                status = value(span.attributes, "rpc.response.status_code")
                ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
                yield f"{'  ' * depth}{service}  {span.name}  {status}  {ms:.1f} ms"
                yield from self.lines(span.span_id, depth + 1)


def value(attributes: Iterable[KeyValue], key: str) -> str:
    """The text of an attribute, "" without it."""
    return next((found.value.string_value for found in attributes if found.key == key), "")


def start(address: str, collector: Collector) -> tuple[grpc.Server, int]:
    """Starts a server on HOST:PORT; returns it and its port. Raises RuntimeError."""
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def main() -> None:
    parser = argparse.ArgumentParser(description="Collect spans; print traces on Ctrl-C.")
    parser.add_argument("--address", default="127.0.0.1:4317", help="(default: %(default)s)")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    collector = Collector()
    try:
        server, port = start(args.address, collector)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    print(f"listening on {args.address.rpartition(':')[0]}:{port}", flush=True)
    signal.sigwait(STOP_SIGNALS)
    server.stop(1).wait()
    for line in collector.lines():
        print(line)


if __name__ == "__main__":
    main()
