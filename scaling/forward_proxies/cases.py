"""Shows when a call uses a forward proxy: each case sets variables and options.

Run it:

    GRPC_VERBOSITY=NONE python -m scaling.forward_proxies.cases
"""

import argparse
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc

from production.development import echo_server
from protos.echo.v1.echo_pb2 import EchoRequest
from protos.echo.v1.echo_pb2_grpc import EchoServiceStub
from scaling.forward_proxies.connect_proxy import ConnectProxy, running

CALLS = 10
USUAL = "localhost:PORT"
Environment = dict[str, str]
Options = Sequence[tuple[str, str | int]]


@dataclass
class Case:
    """Variables, options and a target. Words in capitals stand for addresses: see Stage."""

    environment: Environment = field(default_factory=dict)
    options: Options = ()
    target: str = USUAL

    def __str__(self) -> str:
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        options = [f'("{name}", {json.dumps(value)})' for name, value in self.options]
        target = [] if self.target == USUAL else [f"to {self.target}"]
        return " ".join(variables + options + target) or "nothing"


PROXY, DEAD = "http://PROXY", "http://DEAD"
ON: Environment = {"grpc_proxy": PROXY}
BY_OPTION: Options = [("grpc.http_proxy", PROXY)]
ADDRESS = "GRPC_ADDRESS_HTTP_PROXY"
ENABLED = f"{ADDRESS}_ENABLED_ADDRESSES"
GROUPS = {
    "which variables": [
        Case(),
        Case(ON),
        Case({"https_proxy": PROXY}),
        Case({"http_proxy": PROXY}),
        Case({"all_proxy": PROXY}),
        Case({"GRPC_PROXY": PROXY, "HTTPS_PROXY": PROXY}),
    ],
    "which one counts": [
        Case({"grpc_proxy": PROXY, "https_proxy": DEAD}),
        Case({"https_proxy": PROXY, "http_proxy": DEAD}),
        Case({"grpc_proxy": "", "https_proxy": PROXY}),
    ],
    "options of a channel": [
        Case({}, BY_OPTION),
        Case({"grpc_proxy": DEAD}, BY_OPTION),
        Case(ON, [("grpc.http_proxy", "")]),
        Case(ON, [("grpc.enable_http_proxy", 0)]),
    ],
    "exceptions": [
        Case(ON | {"no_proxy": "localhost"}),
        Case({"no_proxy": "localhost"}, BY_OPTION),
        Case(ON | {"no_grpc_proxy": "localhost"}),
        Case(ON | {"no_grpc_proxy": "", "no_proxy": "localhost"}),
        Case(ON | {"NO_PROXY": "localhost"}),
        Case(ON | {"no_proxy": "*"}),
        Case(ON | {"no_proxy": "localhost:PORT"}),
        Case(ON | {"no_proxy": "127.0.0.0/8"}),
        Case(ON | {"no_proxy": "127.0.0.0/8"}, target="ONE"),
        Case(ON | {"no_proxy": "localhost"}, target="a.localhost:PORT"),
        Case(ON | {"no_proxy": "host"}),
    ],
    "targets": [
        Case(ON, target="echo.internal"),
        Case(ON, target="down.internal"),
        Case(ON, target="ipv4:ONE,TWO"),
        Case({ADDRESS: "PROXY"}, target="ipv4:ONE,TWO"),
        Case({ADDRESS: "PROXY", ENABLED: "127.0.0.0/8"}, target="ipv4:ONE,TWO"),
        Case(
            {ADDRESS: "PROXY", ENABLED: "127.0.0.1/32", "no_proxy": "127.0.0.1"},
            [("grpc.enable_http_proxy", 0)],
            "ONE",
        ),
    ],
    "logins": [
        Case({"grpc_proxy": "http://ada:secret@LOCKED"}),
        Case({"grpc_proxy": "http://ada:wrong@LOCKED"}),
        Case({"grpc_proxy": "http://LOCKED"}),
    ],
    "values": [
        Case({"grpc_proxy": "PROXY"}),
        Case({"grpc_proxy": "https://PROXY"}),
        Case({"grpc_proxy": "socks5://PROXY"}),
        Case({"grpc_proxy": DEAD}),
    ],
}
ALWAYS: Options = [
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.use_local_subchannel_pool", 1),  # Or the case before might leave us its connection.
]


class Result(NamedTuple):
    """The targets of the proxies' CONNECT requests, and how the calls ended."""

    connects: list[str]
    outcome: str


class Stage:
    """Servers and proxies, and the words that stand for them in a case.

    PORT is that of a server on localhost, ONE its address, TWO that of another server. PROXY is a
    proxy for everybody, LOCKED one that needs a login, and nothing listens at DEAD.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._reports: list[str] = []
        self._words = {}
        for name in ("ONE", "TWO"):
            server, port = echo_server.start("127.0.0.1:0", name, lambda _: None)
            stack.callback(lambda stop: stop(None).wait(), server.stop)
            self._words[name] = f"127.0.0.1:{port}"
        dead = stack.enter_context(socket.socket())
        dead.bind(("127.0.0.1", 0))
        self._words["DEAD"] = f"127.0.0.1:{dead.getsockname()[1]}"
        one = self._words["ONE"]
        self._words[USUAL] = one.replace("127.0.0.1", "localhost")
        hosts = {"echo.internal:443": one, "down.internal:443": self._words["DEAD"]}
        for name, login in (("PROXY", ""), ("LOCKED", "ada:secret")):
            proxy = ConnectProxy(self._reports.append, login, hosts)
            self._words[name] = f"127.0.0.1:{stack.enter_context(running(proxy))}"

    def play(self, case: Case) -> Result:
        """Makes the calls of a case on a new channel."""
        self._reports.clear()
        variables = {name: self._filled(value) for name, value in case.environment.items()}
        options = [
            (name, self._filled(value) if isinstance(value, str) else value)
            for name, value in (*case.options, *ALWAYS)
        ]
        with only(variables), grpc.insecure_channel(self._filled(case.target), options) as channel:
            stub = EchoServiceStub(channel)
            try:
                by = {stub.UnaryEcho(EchoRequest(), timeout=30).served_by for _ in range(CALLS)}
                outcome = "OK" if len(by) == 1 else "OK, by both"
            except grpc.RpcError as error:
                reason = (error.details() or "").rpartition(": ")[2]
                outcome = f"{error.code().name}: {reason}"
        asked = {report.split()[1].rstrip(":") for report in self._reports}
        return Result(sorted(map(self._blank, asked)), outcome)

    def _filled(self, text: str) -> str:
        for word, address in self._words.items():
            text = text.replace(word, address)
        return text

    def _blank(self, text: str) -> str:
        for word, address in self._words.items():
            text = text.replace(address, word)
        return text


@contextmanager
def only(variables: Environment) -> Iterator[None]:
    """Sets variables, and removes all others about proxies, for a block."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if "proxy" in name.lower()}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def main() -> None:
    argparse.ArgumentParser(description="Show when a proxy is used.").parse_args()
    with ExitStack() as stack:
        stage = Stage(stack)
        for title, cases in GROUPS.items():
            print(f"{title:55}CONNECT")
            for case in cases:
                connects, outcome = stage.play(case)
                setting = f"  {case}"
                line = f"{setting:55}" if len(setting) < 55 else f"{setting}\n{'':55}"
                print(f"{line}{' and '.join(connects) or '-':22}  {outcome}")


if __name__ == "__main__":
    main()
