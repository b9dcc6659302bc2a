"""Asks one thing of an HTTP server, many times at a time, and prints what it saw as JSON.

    python -m benchmarks.http_load localhost:8080 --seconds 3

It speaks as little HTTP/1.1 as that takes, so that it is the server that limits: connections stay
open, and each answer must say how long it is, or come in chunks.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable

from benchmarks.load import CONTACT, summary

REQUEST = (
    f"GET /v1/{CONTACT} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n".encode()
)
RIGHT = {"name": CONTACT, "person": {"name": "Ada", "email": "ada@example.org"}}
"""What each answer must hold, whatever else it holds."""


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """One request on an open connection, and the body of its answer.

    Raises ValueError unless the status is 200.
    """
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, after = head.partition(b"content-length:")
    body = b""
    if after:
        body = await reader.readexactly(int(after.split(b"\r\n", 1)[0]))
    elif b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + len(b"\r\n")))[:size]
        await reader.readline()
    else:
        raise ValueError(f"an answer without its length: {head[:200]!r}")
    if not head.startswith(b"http/1.1 200"):
        raise ValueError(f"wrong answer: {head[:20]!r} {body[:200]!r}")
    return body


def check(body: bytes) -> None:
    """Raises ValueError unless an answer holds what it must."""
    found = json.loads(body)
    if {key: found.get(key) for key in RIGHT} != RIGHT:
        raise ValueError(f"wrong answer: {body[:200]!r}")


async def load(
    address: str,
    request: bytes,
    check: Callable[[bytes], None],
    seconds: float,
    in_flight: int,
) -> dict[str, float]:
    """Keeps so many requests in flight for so many seconds. The body of every answer is checked.

    Raises ValueError for a wrong answer, OSError or EOFError for a lost connection.
    """
    host, _, port = address.rpartition(":")
    latencies: list[float] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        right = b""
        while (started := time.perf_counter()) < ends:
            body = await ask(reader, writer, request)
            latencies.append(time.perf_counter() - started)
            if body != right:  # The same bytes need not be read again.
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
