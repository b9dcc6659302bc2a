"""Sends one HTTP request again and again, many at a time, and prints a summary as JSON.

Run it:

    python -m benchmarks.loads.http_load localhost:8080 --seconds 3

It implements as little of HTTP/1.1 as possible, so that the server is the limit: connections stay
open, and each response must have a Content-Length or come in chunks.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable

from benchmarks.loads.grpc_load import CONTACT
from benchmarks.loads.latencies import summary

REQUEST = (
    f"GET /v1/{CONTACT} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n".encode()
)
RIGHT = {"name": CONTACT, "person": {"name": "Ada", "email": "ada@example.org"}}
"""Each response must have these members, and may have more."""


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Sends a request on an open connection, and returns the body of the response.

    Raises ValueError unless the status is 200.
    """
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, after_length = head.partition(b"content-length:")
    body = b""
    if after_length:
        body = await reader.readexactly(int(after_length.split(b"\r\n", 1)[0]))
    elif b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + len(b"\r\n")))[:size]
        await reader.readline()
    else:
        raise ValueError(f"a response without its length: {head[:200]!r}")
    if not head.startswith(b"http/1.1 200"):
        raise ValueError(f"wrong response: {head[:20]!r} {body[:200]!r}")
    return body


def check(body: bytes) -> None:
    """Raises ValueError unless a response has the right members."""
    contact = json.loads(body)
    if {key: contact.get(key) for key in RIGHT} != RIGHT:
        raise ValueError(f"wrong response: {body[:200]!r}")


async def load(
    address: str,
    request: bytes,
    check: Callable[[bytes], None],
    seconds: float,
    in_flight: int,
) -> dict[str, float]:
    """Keeps `in_flight` requests in flight for `seconds` seconds, and checks every response.

    Raises ValueError for a wrong response, OSError or EOFError for a lost connection.
    """
    host, _, port = address.rpartition(":")
    latencies: list[float] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        right = b""
        while (started := time.perf_counter()) < ends:
            body = await send(reader, writer, request)
            latencies.append(time.perf_counter() - started)
            if body != right:  # The same bytes need no second check.
                check(body)
                right = body
        writer.close()

    started = time.perf_counter()
    ends = started + seconds
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return summary(latencies, time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load an HTTP server with one request.")
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    args = parser.parse_args()
    work = load(args.address, REQUEST, check, args.seconds, args.in_flight)
    try:
        print(json.dumps(asyncio.run(work)))
    except (ValueError, OSError, EOFError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
