"""A name server with a few names, which records its queries: just enough of DNS for gRPC.

with NameServer({"echo.example": ["127.0.0.1"]}) as names:
    grpc.insecure_channel(names.target("echo.example", 50051))
"""

import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Self

A, INTERNET = 1, 1
"""The type and the class of DNS records for IPv4 addresses."""
ANSWER, NO_ERROR, NO_SUCH_NAME = 0x8400, 0, 3
HEADER_BYTES = 12
TTL = 0
"""Seconds that an answer may be cached. gRPC ignores it."""


class NameServer:
    """Answers on a port of its own while the context is entered. Records may change meanwhile."""

    def __init__(self, records: Mapping[str, Sequence[str]]) -> None:
        self.records = dict(records)
        """The IPv4 addresses of each name."""
        self.asked: list[str] = []
        """The names whose IPv4 addresses were asked for."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def target(self, name: str, port: int) -> str:
        """Returns the target with which a channel asks this server, and no other, for the name."""
        return f"dns://127.0.0.1:{self._socket.getsockname()[1]}/{name}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        """Returns the answer to a query: its question, and the addresses if it asks for them."""
        labels, position = [], HEADER_BYTES
        while length := query[position]:
            labels.append(query[position + 1 : position + 1 + length].decode())
            position += 1 + length
        name = ".".join(labels).lower()
        (kind,) = struct.unpack_from("!H", query, position + 1)
        addresses = self.records.get(name, []) if kind == A else []
        if kind == A:
            self.asked.append(name)
        (number,) = struct.unpack_from("!H", query)
        code = NO_ERROR if name in self.records else NO_SUCH_NAME
        header = struct.pack("!6H", number, ANSWER | code, 1, len(addresses), 0, 0)
        question = query[HEADER_BYTES : position + 5]
        same_name = 0xC000 | HEADER_BYTES  # A pointer to the name in the question.
        head = struct.pack("!3HIH", same_name, A, INTERNET, TTL, 4)
        return header + question + b"".join(head + socket.inet_aton(a) for a in addresses)
