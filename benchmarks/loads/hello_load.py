"""Loads a server with greetings, and prints a summary as JSON.

Run it:

    python -m benchmarks.loads.hello_load localhost:50051 grpc --seconds 3

It uses h2load if it is installed. Otherwise it calls from Python, and most servers wait for it.
"""

import argparse
import asyncio
import json
import sys

import grpc

from benchmarks.loads import greetings, h2load, http_load
from benchmarks.loads.greetings import METHOD, NAME, PROTOCOLS, framed
from benchmarks.loads.grpc_load import Call
from benchmarks.loads.grpc_load import load as load_grpc


async def load_embedded(
    address: str, protocol: str, name: str, seconds: float, in_flight: int
) -> dict[str, float]:
    """Keeps `in_flight` requests in flight for `seconds` seconds, and checks each reply.

    Raises ValueError for a wrong reply, grpc.RpcError, OSError or EOFError for a failed call.
    """
    request = greetings.request(protocol, name)

    def check(body: bytes) -> None:
        greetings.check(protocol, body, name)

    if protocol == "grpc":
        return await load_grpc(
            address, Call(METHOD, request.body[len(framed(b"")) :], check), seconds, in_flight
        )
    head = (
        f"POST {request.path} HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: {request.content_type}\r\nContent-Length: {len(request.body)}\r\n\r\n"
    )
    return await http_load.load(address, head.encode() + request.body, check, seconds, in_flight)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a server with greetings.")
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument(
        "--name-length", type=int, default=len(NAME), help="bytes of the name to greet"
    )
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    parser.add_argument("--embedded", action="store_true", help="do without h2load")
    args = parser.parse_args()
    name = NAME.ljust(args.name_length, "d")[: args.name_length]
    amount = args.seconds, args.in_flight
    try:
        size = greetings.probe(args.address, args.protocol, name)
        if h2load.program() and not args.embedded:
            summary = h2load.load(
                args.address, greetings.request(args.protocol, name), size, *amount
            )
        else:
            summary = asyncio.run(load_embedded(args.address, args.protocol, name, *amount))
    except grpc.RpcError as error:
        sys.exit(f"error: {error.code().name}: {error.details()}")
    except (ValueError, OSError, EOFError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
