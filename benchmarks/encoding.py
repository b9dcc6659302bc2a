"""The same address book as protobuf and as JSON: bytes, and time to write, read and use it.

python -m benchmarks.encoding
"""

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
import orjson
from google.protobuf.json_format import ParseDict
from pydantic import BaseModel, TypeAdapter
from rich import box
from rich.table import Table

from benchmarks import harness
from benchmarks.harness import BenchmarkError, Ratio, ratio
from protobuf_demo.addressbook_pb2 import AddressBook

PEOPLE = 1_000
BASELINE = "protobuf"


class Phone(msgspec.Struct):
    number: str
    type: str


class Person(msgspec.Struct):
    name: str
    id: int
    email: str
    phones: list[Phone]


class PhoneModel(BaseModel):
    number: str
    type: str


class PersonModel(BaseModel):
    name: str
    id: int
    email: str
    phones: list[PhoneModel]


def people() -> list[dict[str, Any]]:
    """What is written, as dicts."""
    return [
        {
            "name": f"Person Number {number}",
            "id": number,
            "email": f"person{number}@example.com",
            "phones": [
                {"number": f"555-{number:04}", "type": "HOME"},
                {"number": f"556-{number:04}", "type": "WORK"},
            ],
        }
        for number in range(PEOPLE)
    ]


class Format(NamedTuple):
    """Writes its own objects, reads them back, and reads every field of them."""

    objects: Any
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    use: Callable[[Any], int]


def use_objects(found: Iterable[Any]) -> int:
    """Reads every field; a sum that shows it."""
    total = 0
    for person in found:
        total += len(person.name) + person.id + len(person.email)
        for phone in person.phones:
            total += len(phone.number) + bool(phone.type)
    return total


def use_dicts(found: Iterable[dict[str, Any]]) -> int:
    total = 0
    for person in found:
        total += len(person["name"]) + person["id"] + len(person["email"])
        for phone in person["phones"]:
            total += len(phone["number"]) + bool(phone["type"])
    return total


def formats() -> dict[str, Format]:
    """Each format with the same people in it."""
    plain = people()
    book = ParseDict({"people": plain}, AddressBook())
    models = TypeAdapter(list[PersonModel])
    structs = msgspec.json.Decoder(list[Person])
    return {
        BASELINE: Format(
            book,
            lambda objects: bytes(objects.SerializeToString()),
            AddressBook.FromString,
            lambda found: use_objects(found.people),
        ),
        "json": Format(
            plain,
            lambda objects: json.dumps(objects, separators=(",", ":")).encode(),
            json.loads,
            use_dicts,
        ),
        "orjson": Format(plain, orjson.dumps, orjson.loads, use_dicts),
        "msgspec, typed": Format(
            msgspec.convert(plain, list[Person]), msgspec.json.encode, structs.decode, use_objects
        ),
        "pydantic": Format(
            models.validate_python(plain), models.dump_json, models.validate_json, use_objects
        ),
    }


class Times(NamedTuple):
    """Milliseconds: to write, to read, to read and use."""

    write: float
    read: float
    used: float


def best(work: Callable[[], object], count: int = 5) -> float:
    """The shortest of some times, in milliseconds: what else the machine did only adds to it."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def measure(form: Format) -> Times:
    data = form.write(form.objects)
    if form.use(form.read(data)) != form.use(form.objects):
        raise BenchmarkError("what is read is not what was written")
    return Times(
        best(lambda: form.write(form.objects)),
        best(lambda: form.read(data)),
        best(lambda: form.use(form.read(data))),
    )


def table(found: dict[str, Format], seen: dict[str, list[Times]]) -> Table:
    result = Table(box=box.SIMPLE_HEAD)
    result.add_column("format", no_wrap=True)
    headings = ("bytes", "gzip", "write ms", "read ms", "read, use ms", "× protobuf's", "range")
    for heading in headings:
        result.add_column(heading, justify="right", no_wrap=True)
    for name, form in found.items():
        data = form.write(form.objects)
        write, read, used = map(statistics.median, zip(*seen[name], strict=True))
        against = slower(seen, name)
        result.add_row(
            name, f"{len(data):,}", f"{len(gzip.compress(data)):,}", f"{write:.2f}", f"{read:.2f}",
            f"{used:.2f}", f"{against.median:.2f}",
            f"{against.lowest:.2f} to {against.highest:.2f}",
        )  # fmt: skip
    result.caption = "× protobuf's: the time to read and use it, round by round"
    return result


def slower(seen: dict[str, list[Times]], name: str) -> Ratio:
    """The time to read and use a format against protobuf's."""
    return ratio([each.used for each in seen[name]], [each.used for each in seen[BASELINE]])


def verdict(found: dict[str, Format], seen: dict[str, list[Times]]) -> str:
    """What holds of the claims, a line each."""
    sizes = {name: form.write(form.objects) for name, form in found.items()}
    raw = len(sizes["orjson"]) / len(sizes[BASELINE])
    packed = len(gzip.compress(sizes["orjson"])) / len(gzip.compress(sizes[BASELINE]))
    lines = [
        f"holds: JSON has {raw:.2f} × protobuf's bytes, {packed:.2f} × once both are compressed"
    ]
    for name in ("json", "orjson", "msgspec, typed"):
        median = slower(seen, name).median
        takes = f"{name} takes {median:.2f} × as long to read and use"
        lines.append(f'{harness.judge(median)}: "protobuf is faster", {takes}')
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure protobuf beside JSON.")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    found = formats()
    with harness.ending_clearly():
        seen = harness.compare(list(found), args.rounds, lambda name: measure(found[name]))
    harness.save(harness.RESULTS / "encoding.json", seen)
    print(harness.text(table(found, seen), verdict(found, seen)))


if __name__ == "__main__":
    main()
