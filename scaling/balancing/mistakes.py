"""Shows which wrong configurations fail, and which are ignored silently.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.balancing.mistakes
"""

import argparse
from contextlib import ExitStack

import grpc

from scaling import backend
from scaling.balancing.callers import Options, shares
from scaling.balancing.name_server import NameServer

CALLS = 30
CONFIGS = {
    "unknown policy": '{"loadBalancingConfig": [{"fastest": {}}]}',
    "unknown, then known": '{"loadBalancingConfig": [{"fastest": {}}, {"round_robin": {}}]}',
    "upper case": '{"loadBalancingConfig": [{"ROUND_ROBIN": {}}]}',
    "not a list": '{"loadBalancingConfig": {"round_robin": {}}}',
    "two in one": '{"loadBalancingConfig": [{"round_robin": {}, "pick_first": {}}]}',
    "key misspelt": '{"load_balancing_config": [{"round_robin": {}}]}',
    "the old key": '{"loadBalancingPolicy": "ROUND_ROBIN"}',
    "not JSON": "{'loadBalancingConfig': [{'round_robin': {}}]}",
}
"""Service configs."""


def outcome(target: str, options: Options) -> str:
    """Makes calls; returns whether they are spread, or how they fail."""
    try:
        with grpc.insecure_channel(target, options) as channel:
            by = shares(channel, CALLS)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return "calls are spread" if len(by) > 1 else "all calls go to one backend"


def outcomes(stack: ExitStack) -> dict[str, str]:
    """Returns the outcome of each mistake."""
    addresses = []
    for name in ("a", "b"):
        server, port = backend.start("127.0.0.1:0", name)
        stack.callback(backend.stop, server)
        addresses.append(f"127.0.0.1:{port}")
    target = "ipv4:" + ",".join(addresses)
    names = stack.enter_context(NameServer({}))
    by_config = {
        title: outcome(target, [("grpc.service_config", text)]) for title, text in CONFIGS.items()
    }
    return by_config | {
        "unknown, as an option": outcome(target, [("grpc.lb_policy_name", "fastest")]),
        "a list without ipv4:": outcome(",".join(addresses), []),
        "a list of names": outcome(target.replace("127.0.0.1", "localhost"), []),
        "no such name": outcome(names.target("echo.example", 50051), []),
    }


def main() -> None:
    argparse.ArgumentParser(description="Show what wrong configurations do.").parse_args()
    with ExitStack() as stack:
        for title, result in outcomes(stack).items():
            print(f"{title:23}{result}")


if __name__ == "__main__":
    main()
