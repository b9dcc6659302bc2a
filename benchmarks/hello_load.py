"""Loads a server with greetings, by h2load if it is there, and prints what it saw as JSON.

    python -m benchmarks.hello_load localhost:50051 grpc --seconds 3

Without h2load it does so itself, by asyncio. Then most servers wait for it.
"""

import argparse
import asyncio
import json
import sys

import grpc

from benchmarks import greetings, h2load, http_load
from benchmarks.greetings import METHOD, NAME, PROTOCOLS, framed
from benchmarks.load import Call
from benchmarks.load import load as load_grpc


async def load_embedded(
    address: str, protocol: str, name: str, seconds: float, in_flight: int
) -> dict[str, float]:
    """Keeps so many requests in flight for so many seconds, and checks each answer.

    Raises ValueError for a wrong answer, grpc.RpcError, OSError or EOFError for a failed call.
    """
    asked = greetings.request(protocol, name)

    def check(body: bytes) -> None:
        greetings.check(protocol, body, name)

    if protocol == "grpc":
        return await load_grpc(
            address, Call(METHOD, asked.body[len(framed(b"")) :], check), seconds, in_flight
        )
    head = (
        f"POST {asked.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {asked.content_type}\r\n"
        f"Content-Length: {len(asked.body)}\r\n\r\n"
    )
    return await http_load.load(address, head.encode() + asked.body, check, seconds, in_flight)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a server with greetings.")
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("--name-length", type=int, default=len(NAME), help="whom to greet: bytes")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    parser.add_argument("--embedded", action="store_true", help="do without h2load")
    args = parser.parse_args()
    name = NAME.ljust(args.name_length, "d")[: args.name_length]
    how = args.seconds, args.in_flight
    try:
        size = greetings.ask(args.address, args.protocol, name)
        if h2load.program() and not args.embedded:
            seen = h2load.load(args.address, greetings.request(args.protocol, name), size, *how)
        else:
            seen = asyncio.run(load_embedded(args.address, args.protocol, name, *how))
    except grpc.RpcError as error:
        sys.exit(f"error: {error.code().name}: {error.details()}")
    except (ValueError, OSError, EOFError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
