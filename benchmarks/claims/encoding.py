"""Compares protobuf with JSON: bytes, and the time to write, read and use an address book.

Run it:

    python -m benchmarks encoding
"""

import gzip
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
import orjson
from google.protobuf.json_format import ParseDict
from pydantic import BaseModel, TypeAdapter

from benchmarks import harness, tables
from benchmarks.harness import BenchmarkError, Ratio
from benchmarks.registry import Claim, Settings
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
    """Makes the people that are written, as dicts."""
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
    """Writes objects of its own, reads them back, and reads each of their fields."""

    objects: Any
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    use: Callable[[Any], int]


def use_objects(people: Iterable[Any]) -> int:
    """Reads every field; the sum proves it."""
    total = 0
    for person in people:
        total += len(person.name) + person.id + len(person.email)
        for phone in person.phones:
            total += len(phone.number) + bool(phone.type)
    return total


def use_dicts(people: Iterable[dict[str, Any]]) -> int:
    total = 0
    for person in people:
        total += len(person["name"]) + person["id"] + len(person["email"])
        for phone in person["phones"]:
            total += len(phone["number"]) + bool(phone["type"])
    return total


def formats() -> dict[str, Format]:
    """Makes each format, with the same people."""
    plain = people()
    book = ParseDict({"people": plain}, AddressBook())
    models = TypeAdapter(list[PersonModel])
    structs = msgspec.json.Decoder(list[Person])
    return {
        BASELINE: Format(
            book,
            lambda objects: bytes(objects.SerializeToString()),
            AddressBook.FromString,
            lambda book: use_objects(book.people),
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


class CodecTimes(NamedTuple):
    """Milliseconds to write, to read, and to read and use."""

    write: float
    read: float
    used: float


def best(work: Callable[[], object], count: int = 5) -> float:
    """Returns the shortest time in milliseconds: other work on the machine only adds to it."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def measure_format(form: Format) -> CodecTimes:
    """Measures one round. Raises BenchmarkError if what is read was not written."""
    data = form.write(form.objects)
    if form.use(form.read(data)) != form.use(form.objects):
        raise BenchmarkError("what is read is not what was written")
    return CodecTimes(
        best(lambda: form.write(form.objects)),
        best(lambda: form.read(data)),
        best(lambda: form.use(form.read(data))),
    )


def use_ratio(runs: dict[str, list[CodecTimes]], name: str) -> Ratio:
    """Compares the time to read and use a format with protobuf's."""
    return harness.ratio([run.used for run in runs[name]], [run.used for run in runs[BASELINE]])


def measure(settings: Settings) -> dict[str, list[CodecTimes]]:
    forms = formats()
    return harness.compare(list(forms), settings.rounds, lambda name: measure_format(forms[name]))


def table(runs: dict[str, list[CodecTimes]]) -> str:
    rows = []
    for name, form in formats().items():
        data = form.write(form.objects)
        times = (f"{milliseconds:.2f}" for milliseconds in harness.medians(runs[name]))
        sizes = f"{len(data):,}", f"{len(gzip.compress(data)):,}"
        rows.append((name, *sizes, *times, *use_ratio(runs, name).cells()))
    headings = "format", "bytes", "gzip", "write ms", "read ms", "read, use ms"
    caption = "× protobuf's: the time to read and use it, round by round"
    return tables.table((*headings, "× protobuf's", "range"), rows, caption)


def verdict(runs: dict[str, list[CodecTimes]]) -> str:
    """Judges the claims, a line each."""
    data = {name: form.write(form.objects) for name, form in formats().items()}
    raw = len(data["orjson"]) / len(data[BASELINE])
    packed = len(gzip.compress(data["orjson"])) / len(gzip.compress(data[BASELINE]))
    sizes = f"JSON has {raw:.2f} × protobuf's bytes, {packed:.2f} × once both are compressed"
    lines = [tables.verdict(raw, sizes)]
    for name in ("json", "orjson", "msgspec, typed"):
        median = use_ratio(runs, name).median
        takes = f"{name} takes {median:.2f} × as long to read and use"
        lines.append(tables.verdict(median, f'"protobuf is faster", {takes}'))
    return "\n".join(lines)


CLAIM = Claim("Bytes and time", CodecTimes, measure, table, verdict, Settings(rounds=20))
