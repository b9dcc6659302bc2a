"""Counts each backend's calls: pick_first and round_robin, a list of addresses and DNS.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.balancing.policies
"""

import argparse
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import grpc

from scaling import backend
from scaling.balancing.callers import Options, channel_to, policy, who
from scaling.balancing.name_server import NameServer

NAMES = ("a", "b", "c")
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
"""A DNS record holds no port, so the backends have the same port on different addresses."""
CALLS = 30
WARM_UP = 30
"""Calls at most until every backend is connected."""
SHUFFLED = policy("pick_first", shuffleAddressList=True)
OWN_CONNECTIONS: Options = (("grpc.use_local_subchannel_pool", 1),)
"""Without it, channels share connections, perhaps with those of the case before."""


@dataclass
class Case:
    """A target, the service config of its channels, and how many of them share the calls."""

    title: str
    target: str
    config: dict[str, object] | None = None
    channels: int = 1
    options: Options = OWN_CONNECTIONS


CASES = [
    Case("no config", "list"),
    Case("pick_first", "list", policy("pick_first")),
    Case("round_robin", "list", policy("round_robin")),
    Case("weighted_round_robin", "list", policy("weighted_round_robin")),
    Case("no config", "three.example"),
    Case("round_robin", "three.example", policy("round_robin")),
    Case("round_robin", "one.example", policy("round_robin")),
    Case("no config", "list", channels=30),
    Case("pick_first, shuffled", "list", SHUFFLED, 30),
    Case("the same, one pool for all", "list", SHUFFLED, 30, ()),
    Case("round_robin", "list", policy("round_robin"), channels=30),
]


def start_on_one_port(
    stack: ExitStack, options: backend.Options = ()
) -> tuple[list[grpc.Server], int]:
    """Starts a backend on each of the hosts; returns them, and the port they share."""
    while True:
        servers: list[grpc.Server] = []
        port = 0
        try:
            for host, name in zip(HOSTS, NAMES, strict=True):
                server, port = backend.start(f"{host}:{port}", name, options=options)
                servers.append(server)
        except RuntimeError:
            for server in servers:
                server.stop(None)
            if not port:
                raise
        else:
            for server in servers:
                stack.callback(backend.stop, server)
            return servers, port


def served(case: Case, target: str) -> Counter[str]:
    """Counts who answers the calls of a case."""
    with ExitStack() as stack:
        channels = [
            stack.enter_context(channel_to(target, case.config, case.options))
            for _ in range(case.channels)
        ]
        if case.channels == 1:
            seen: set[str] = set()
            for _ in range(WARM_UP):
                if len(seen) < len(NAMES):
                    seen.add(who(channels[0]))
        return Counter(who(channels[call % case.channels]) for call in range(CALLS))


def show() -> None:
    """Starts the backends and a name server, and prints who gets the calls of each case."""
    with ExitStack() as stack:
        _, port = start_on_one_port(stack)
        records = {"three.example": HOSTS, "one.example": HOSTS[:1]}
        names = stack.enter_context(NameServer(records))
        targets = {name: names.target(name, port) for name in records}
        targets["list"] = "ipv4:" + ",".join(f"{host}:{port}" for host in HOSTS)
        print(f"{CALLS} calls to{'':18}by{'':27}channels  {'':3}".rstrip(), *NAMES, sep="   ")
        for case in CASES:
            by = served(case, targets[case.target])
            counts = "".join(f"{by[name]:4}" for name in NAMES)
            print(f"{case.target:26}{case.title:29}{case.channels:8}  {counts}")


def main() -> None:
    argparse.ArgumentParser(description="Count each backend's calls.").parse_args()
    try:
        show()
    except RuntimeError as error:
        hint = "this lesson needs 127.0.0.2 and 127.0.0.3, which macOS does not have by itself"
        sys.exit(f"error: {error} ({hint})")


if __name__ == "__main__":
    main()
