"""Compares chapter 4's own rules with the same ones in the contract: CPU time to check a request.

Run it:

    python -m benchmarks rules
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import harness, tables
from benchmarks.harness import BenchmarkError, Ratio
from benchmarks.registry import ROOT, Claim, Settings
from production.contacts.validation import contact_violations
from production.lessons.rules import checks
from production.lessons.rules.v1 import contacts_pb2 as with_rules
from production.serving import validation
from production.serving.validation import InvalidError
from production.v1 import contacts_pb2 as without_rules

OWN, CONTRACT = VARIANTS = "our own, in Python", "in the contract"
CHECKS = 500
"""How often each request is checked in a run; the time is that of the best of ten runs."""
START = {
    OWN: "import production.contacts.validation",
    CONTRACT: "from production.lessons.rules import checks, mistakes;"
    "checks.try_rules(mistakes.SERVICE)",
}
"""What a program does before its first check, once it has loaded gRPC and the messages."""
LOAD = """
import json, time, psutil, grpc, grpc_status.rpc_status, google.protobuf.message_factory
import google.rpc.error_details_pb2
import production.v1.contacts_pb2, production.lessons.rules.v1.contacts_pb2_grpc
memory, started = psutil.Process().memory_info().rss, time.process_time()
{}
seconds = time.process_time() - started
print(json.dumps([seconds * 1000, (psutil.Process().memory_info().rss - memory) / 2**20]))
"""


class CheckTimes(NamedTuple):
    """Microseconds of CPU time to check each request; milliseconds and MiB to load the rules."""

    one: float
    """A contact with a phone."""
    twenty: float
    """A contact with 20 phones."""
    wrong: float
    """A contact with five mistakes."""
    start_ms: float
    memory_mib: float


def requests() -> list[tuple[bytes, int]]:
    """Makes the requests, serialized, and how many mistakes each has."""

    def request(name: str, numbers: list[str]) -> bytes:
        made = without_rules.CreateContactRequest()
        made.contact.person.name = name
        made.contact.person.email = "ada@example.com"
        made.contact.person.last_updated.GetCurrentTime()
        for number in numbers:
            made.contact.person.phones.add(number=number)
        return bytes(made.SerializeToString())

    numbers = [f"+44 20 7946 {number:04}" for number in range(20)]
    return [
        (request("Ada Lovelace", numbers[:1]), 0),
        (request("Ada Lovelace", numbers), 0),
        (request("", ["", "1\n", "2" * 201, "\u3000"]), 5),
    ]


def own(request: Any) -> list[Any]:
    """Returns what is wrong with a request, by the rules of chapter 4's CreateContact."""
    try:
        validation.raise_for(
            contact_violations(request.contact),
            validation.resource_id_violations(request.contact_id, "contact_id"),
            validation.request_id_violations(request.request_id),
        )
    except InvalidError as error:
        return list(error.violations)
    return []


def checker(variant: str) -> tuple[Any, Callable[[Any], list[Any]]]:
    """Returns the type of the requests of a variant, and what checks them."""
    if variant == OWN:
        return without_rules.CreateContactRequest, own
    return with_rules.CreateContactRequest, checks.violations


def microseconds(check: Callable[[Any], list[Any]], request: Any) -> float:
    times = []
    for _ in range(10):
        started = time.thread_time()
        for _ in range(CHECKS):
            check(request)
        times.append(time.thread_time() - started)
    return min(times) / CHECKS * 1e6


def measure_variant(variant: str) -> CheckTimes:
    """Measures one round. Raises BenchmarkError if a mistake is missed."""
    kind, check = checker(variant)
    times = []
    for serialized, mistakes in requests():
        request = kind.FromString(serialized)
        if len(check(request)) != mistakes:
            raise BenchmarkError(f"{variant}: {mistakes} mistakes, found {check(request)}")
        times.append(microseconds(check, request))
    started = subprocess.run(
        [sys.executable, "-c", LOAD.format(START[variant])],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return CheckTimes(*times, *json.loads(started.stdout))


def measure(settings: Settings) -> dict[str, list[CheckTimes]]:
    return harness.compare(VARIANTS, settings.rounds, measure_variant)


def ratio(runs: dict[str, list[CheckTimes]], field: str) -> Ratio:
    """Divides the times of the contract's rules by those of our own, round by round."""
    contract, ours = ([getattr(run, field) for run in runs[each]] for each in (CONTRACT, OWN))
    return harness.ratio(contract, ours)


def table(runs: dict[str, list[CheckTimes]]) -> str:
    medians = {variant: harness.medians(each) for variant, each in runs.items()}
    rows = []
    for field, title in (
        ("one", "a phone: µs"),
        ("twenty", "20 phones: µs"),
        ("wrong", "5 mistakes: µs"),
    ):
        times = (f"{getattr(medians[variant], field):.1f}" for variant in VARIANTS)
        rows.append((title, *times, *ratio(runs, field).cells()))
    for field, title in (("start_ms", "to load: ms"), ("memory_mib", "memory: MiB")):
        rows.append((title, *(f"{getattr(medians[each], field):.1f}" for each in VARIANTS), "", ""))
    return tables.table(("a check of", *VARIANTS, "× our own", "range"), rows)


def verdict(runs: dict[str, list[CheckTimes]]) -> str:
    """Judges the claim."""
    one, twenty = ratio(runs, "one").median, ratio(runs, "twenty").median
    found = f"rules in the contract take {one:.2f} × as long as our own for a small request"
    return tables.verdict(one, f"{found}, {twenty:.2f} × for a large one")


CLAIM = Claim(
    "What it costs", CheckTimes, measure, table, verdict, Settings(rounds=20),
    page=ROOT / "production" / "lessons" / "rules" / "README.md",
    errors=(subprocess.CalledProcessError,),
)  # fmt: skip
