"""Chapter 2's Greeter, unchanged, on an HTTP/2 server in Rust.

Run it, then call it from a second terminal:

    python -m scaling.fast_lane --port 50051
    python -m helloworld.greeter_client --address localhost:50051
"""

import argparse
import signal
import sys
from concurrent import futures

import pygrpc_native

from helloworld.greeter_server import Greeter
from helloworld.helloworld_pb2_grpc import add_GreeterServicer_to_server

HOST = "127.0.0.1"
GRACE = 10.0
"""Seconds that calls in flight have to finish once the server is told to stop."""
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the Greeter service, fast.")
    parser.add_argument("--port", type=int, default=50051, help="(default: %(default)s)")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    server = pygrpc_native.server(futures.ThreadPoolExecutor(max_workers=10))
    add_GreeterServicer_to_server(Greeter(), server)
    try:
        port = server.add_insecure_port(f"{HOST}:{args.port}")
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    server.start()
    print(f"listening on {HOST}:{port}", flush=True)
    signal.sigwait(STOP_SIGNALS)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server.stop(GRACE).wait(GRACE + 1)


if __name__ == "__main__":
    main()
