"""The surface of chapter 4 that operators, dashboards and clients rely on, as text.

Run it:

    python -m tests.production.surface

It writes surface.txt, whose diff shows what a change of ours means for them.
"""

import ast
import contextlib
import importlib
import io
import os
import re
import sys
from pathlib import Path
from unittest import mock

from prometheus_client import REGISTRY
from sqlalchemy.exc import OperationalError

from production import contacts_server
from production.contacts import errors as table
from production.serving.layers.adapter import DecodeError
from production.serving.layers.deadline import DrainingError
from production.serving.layers.errors import Errors
from production.serving.overload import OverloadedError
from production.serving.resources import (
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    PositionExpiredError,
)
from production.serving.security.authorization import ForbiddenError
from production.serving.security.jwks import KeysUnavailableError
from production.serving.security.principal import RefusedError
from production.serving.validation import InvalidError, Violation
from tests.conftest import ROOT
from tour import tree

FILE = Path(__file__).with_suffix(".txt")
COMMANDS = {
    "contacts_server": ["", "migrate", "backup", "owners", "erase", "rename"],
    "contacts_client": ["", "list", "get", "add", "delete", "import", "export", "watch"],
    "contacts.api_keys": ["", "add"],
    "development.certificates": [""],
    "development.issuer": [""],
    "development.postgresql": [""],
    "development.echo_server": [""],
    "development.trace_collector": [""],
}
"""The modules that are run, with their subcommands."""
LOGS = {"debug", "info", "warning", "error", "log_call", "bind_contextvars"}


def helps():
    for name, subcommands in COMMANDS.items():
        module = importlib.import_module(f"production.{name}")
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"production.{name}.__main__")
        for subcommand in subcommands:
            printed = io.StringIO()
            with (
                mock.patch.object(sys, "argv", ["PROGRAM", *subcommand.split(), "--help"]),
                mock.patch.dict(os.environ, COLUMNS="1000"),
                contextlib.redirect_stdout(printed),
                contextlib.suppress(SystemExit),
            ):
                module.main()
            yield f"$ {name} {subcommand}".rstrip()
            yield re.sub(r"python -m [\w.]+", "PROGRAM", printed.getvalue())


def metrics():
    for metric, names in sorted(REGISTRY._collector_to_names.items(), key=lambda item: item[1]):
        if not names[0].startswith(("python_", "process_")):
            yield f"{metric._type} {names[0]} {' '.join(metric._labelnames)}".rstrip()


def failures():
    """One of each kind."""
    return [
        InvalidError(Violation("field", "is wrong"), Violation("other", "too")),
        RefusedError("why"),
        ForbiddenError("scope"),
        KeysUnavailableError(),
        DecodeError(),
        NotFoundError("contacts/a"),
        AlreadyExistsError("contacts/a"),
        ConflictError("contacts/a", '"1"'),
        PositionExpiredError("1"),
        OverloadedError(),
        DrainingError(),
        TimeoutError(),
        OperationalError("SELECT", {}, Exception("why")),
        ValueError("why"),
    ]


def errors():
    status_of = Errors(table.DOMAIN, table.status_of).status_of
    for error in failures():
        status = re.sub("[0-9a-f]{32}", "ID", str(status_of(error)))
        yield f"{type(error).__name__}:\n{status}"


def logs():
    """Events and keys of log lines."""
    found = set()
    for path in tree.files(ROOT):
        if path.suffix != ".py" or path.parts[0] != "production" or "lessons" in path.parts:
            continue
        for call in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in LOGS:
                keys = sorted(keyword.arg for keyword in call.keywords)
                match call.args:
                    case []:
                        found.add(f"(every line of a call): {' '.join(keys)}".rstrip())
                    case [ast.Constant(event), *_]:
                        found.add(f"{event}: {' '.join(keys)}".rstrip(" :"))
    return sorted(found)


def surface():
    """All of it."""
    sections = {"errors": errors, "logs": logs, "metrics": metrics}
    lines = [f"listens as {contacts_server.SERVICE}"]
    for name, lines_of in {**sections, "help": helps}.items():
        lines += ["", f"== {name}", *lines_of()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(surface())
