"""Registers the claims, and describes how each is measured and which section of a page shows it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import BenchmarkError

ROOT = Path(__file__).parent.parent
README = ROOT / "benchmarks" / "README.md"

Runs = dict[str, list[Any]]
"""The runs of each variant, by rounds."""


class Settings(NamedTuple):
    """Sets how much is measured. A claim ignores what it has no use for."""

    rounds: int = 1
    seconds: float = 0
    """Of each run."""
    in_flight: int = 64
    """Requests at a time."""
    call: str = "get"
    """A key of loads.grpc_load.CALLS."""


@dataclass(frozen=True)
class Claim:
    """Describes a claim to the runner and to the report."""

    section: str
    run_type: Callable[..., Any]
    """The named tuple that holds the figures of a run."""
    measure: Callable[[Settings], Runs]
    """Measures every variant, and raises BenchmarkError or one of the errors."""
    table: Callable[[Runs], str]
    verdict: Callable[[Runs], str]
    settings: Settings
    page: Path = README
    errors: tuple[type[Exception], ...] = ()

    def text(self, runs: Runs) -> str:
        """Renders the table and the verdicts, as the section shows them."""
        return f"{self.table(runs)}\n{self.verdict(runs)}"


SHORT = {
    "encoding": "protobuf is smaller and faster than JSON",
    "wire": "HTTP/2 saves connections and bandwidth",
    "streaming": "streams are for many messages",
    "clients": "gRPC's client is faster than clients for HTTP",
    "tls": "TLS is slow",
    "compression": "compression makes large messages faster",
    "workers": "a second process nearly doubles the calls",
    "unary": "gRPC is faster than REST, for small calls",
    "rest": "a gateway for REST clients is fast enough",
}
LONG = {
    "fetching": "a stream brings messages sooner",
    "growth": "gRPC is faster than REST, for more calls and larger messages",
    "layers": "what surrounds chapter 4's service costs little",
    "rules": "rules in the contract are slower than rules in Python",
}
CLAIMS = SHORT | LONG
"""For each module in claims/, the claim that it measures."""
GROUPS = {"short": list(SHORT), "all": list(CLAIMS)}
"""`make bench` runs the one, `make bench-full` the other."""


def find(name: str) -> Claim:
    """Imports a claim. Raises BenchmarkError if a package that it needs is not installed."""
    try:
        module = importlib.import_module(f"benchmarks.claims.{name}")
    except ModuleNotFoundError as error:
        raise BenchmarkError(f"{error}: install benchmarks/requirements.txt") from None
    claim: Claim = module.CLAIM
    return claim
