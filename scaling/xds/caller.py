"""Calls EchoService again and again, and prints who has answered each hundred calls.

Run it:

    GRPC_XDS_BOOTSTRAP=build/bootstrap.json python -m scaling.xds.caller xds:///echo.example

With --csds-port it also serves what it believes of xDS, for csds.py. Ctrl-C ends it.
"""

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from production.calling import addresses
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub

HOST = "127.0.0.1"
CALLS = 100
PAUSE = 0.01
TIMEOUT = 30.0


def serve_csds(port: int) -> grpc.Server:
    """Serves what this process has received by xDS, until the server it returns is collected.

    As grpcio-csds does. That needs xds-protos, which must not be installed here; without it, the
    response is bytes that gRPC has packed, and the request is not looked at. Raises RuntimeError.
    """

    def dump(_request: bytes, _: grpc.ServicerContext) -> bytes:
        return bytes(cygrpc.dump_xds_configs())

    service = "envoy.service.status.v3.ClientStatusDiscoveryService"
    handler = grpc.method_handlers_generic_handler(
        service, {"FetchClientStatus": grpc.unary_unary_rpc_method_handler(dump)}
    )
    server = grpc.server(ThreadPoolExecutor(1), [handler], options=[("grpc.so_reuseport", 0)])
    server.add_insecure_port(f"{HOST}:{port}")
    server.start()
    return server


def call(target: str) -> None:
    """Calls until Ctrl-C. Prints the details of each error once."""
    explained = set()
    with grpc.insecure_channel(target) as channel:
        stub = EchoServiceStub(channel)
        while True:
            ended: Counter[str] = Counter()
            for _ in range(CALLS):
                try:
                    by = stub.UnaryEcho(EchoRequest(), timeout=TIMEOUT).served_by
                except grpc.RpcError as error:
                    by = error.code().name
                    if (why := f"{by}: {error.details()}") not in explained:
                        explained.add(why)
                        print(why, file=sys.stderr, flush=True)
                ended[by] += 1
                time.sleep(PAUSE)
            print(*(f"{name} {count}" for name, count in sorted(ended.items())), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Call, and print who has answered.")
    parser.add_argument("target", type=addresses.target, help="HOST:PORT or xds:///NAME")
    parser.add_argument("--csds-port", type=addresses.port, help="serve what is known of xDS")
    args = parser.parse_args()
    try:
        # It has a name because gRPC stops a server that is collected.
        _csds = None if args.csds_port is None else serve_csds(args.csds_port)
        call(args.target)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
