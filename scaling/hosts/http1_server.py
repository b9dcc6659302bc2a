"""Answers GET /BYTES with an EchoResponse whose payload has BYTES bytes, over HTTP/1.1.

Run it:

    python -m scaling.hosts.http1_server --address 127.0.0.1:8080
"""

import argparse
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from production.calling import addresses
from protos.echo.v1.echo_pb2 import EchoResponse


class Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Head and body go out together.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        body = EchoResponse(payload=bytes(int(self.path[1:]))).SerializeToString()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Writes no line for each request."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve messages over HTTP/1.1.")
    parser.add_argument("--address", type=addresses.address, default="127.0.0.1:8080")
    address = parser.parse_args().address
    where = addresses.parse(address)
    try:
        with ThreadingHTTPServer((where.host, where.port), Handler) as server:
            server.daemon_threads = True
            print(f"listening on {address}", flush=True)
            server.serve_forever()
    except OSError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
