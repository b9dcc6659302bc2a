"""Passes packets on between two network interfaces, each after a delay.

The kernel's own way is `tc qdisc add … netem delay 10ms`; not every kernel has netem.

Run it, as root of a network namespace:

    python -m scaling.hosts.slow_line one other --ms 10
"""

import argparse
import select
import socket
import sys
import time
from collections import deque
from contextlib import suppress

ALL_PROTOCOLS = 0x0003
"""ETH_P_ALL of linux/if_ether.h."""
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
MAX_FRAME = 2048
QUEUE = 4096
"""Packets under way in each direction; what is more is dropped, as by a router."""


class Way:
    """One direction of the line."""

    def __init__(self, source: socket.socket, sink: socket.socket, delay: float) -> None:
        """delay is in seconds."""
        self.source, self._sink, self._delay = source, sink, delay
        self._under_way: deque[tuple[float, bytes]] = deque()

    def take(self) -> None:
        """Takes a packet that has come."""
        packet = self.source.recv(MAX_FRAME)
        if len(self._under_way) < QUEUE:
            self._under_way.append((time.monotonic() + self._delay, packet))

    def give(self) -> float:
        """Passes on what has been under way for long enough; returns the seconds until the next."""
        while self._under_way:
            left = self._under_way[0][0] - time.monotonic()
            if left > 0:
                return left
            self._sink.send(self._under_way.popleft()[1])
        return 60.0


def open_interface(name: str) -> socket.socket:
    """Returns a socket with the packets that come to an interface. Raises OSError."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: nothing until it is bound.
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    opened.bind((name, ALL_PROTOCOLS))
    return opened


def pass_on(one: socket.socket, other: socket.socket, delay: float) -> None:
    """Passes packets on in both directions, until this process ends."""
    ways = [Way(one, other, delay), Way(other, one, delay)]
    while True:
        wait = min(way.give() for way in ways)
        ready, _, _ = select.select([way.source for way in ways], [], [], wait)
        for way in ways:
            if way.source in ready:
                way.take()


def main() -> None:
    parser = argparse.ArgumentParser(description="Pass packets on, each after a delay.")
    parser.add_argument("one", help="an interface")
    parser.add_argument("other", help="an interface")
    parser.add_argument("--ms", type=float, default=10, help="delay (default: %(default)s)")
    args = parser.parse_args()
    try:
        ends = open_interface(args.one), open_interface(args.other)
    except OSError as error:
        sys.exit(f"error: {error}")
    print(f"listening on {args.one} and {args.other}", flush=True)
    with suppress(KeyboardInterrupt):
        pass_on(*ends, args.ms / 1000)


if __name__ == "__main__":
    main()
