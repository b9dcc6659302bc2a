"""Writes and reads the results of runs, as JSON, with the machine and the versions."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
RESULTS = Path("build/benchmarks")
PACKAGES = (
    "grpcio", "protobuf", "sqlalchemy", "pygrpc-native", "connectrpc", "grpclib", "fastapi",
    "uvicorn", "starlette", "aiohttp", "httpx", "requests", "orjson", "msgspec", "pydantic",
    "protovalidate",
)  # fmt: skip
"""Their versions are part of the results."""


def save(
    file: Path, runs: Mapping[str, Sequence[Any]], settings: Mapping[str, object] | None = None
) -> None:
    """Writes the runs, which are named tuples, to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    plain = {variant: [run._asdict() for run in each] for variant, each in runs.items()}
    content = {"machine": machine(), "settings": dict(settings or {}), "runs": plain}
    file.write_text(json.dumps(content, indent=1))


def load(file: Path, run_type: Callable[..., T]) -> dict[str, list[T]]:
    """Reads what save has written; run_type makes each run."""
    runs = json.loads(file.read_text())["runs"]
    return {variant: [run_type(**run) for run in each] for variant, each in runs.items()}


def machine() -> dict[str, str]:
    """Describes this machine and the versions of the packages that are compared."""
    described = {
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # Most are installed by `make bench` only.
            described[package] = version(package)
    return described
