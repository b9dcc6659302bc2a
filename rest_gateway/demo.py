"""The chapter at work: ContactService with TLS and tokens, GreeterService, a gateway before them.

    python -m rest_gateway.demo
    python -m rest_gateway.demo --front envoy

It prints where to look and a token to use, and ends with Ctrl-C.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from production import certificates
from rest_gateway.child import child

ROOT = Path(__file__).parent.parent
PATH = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
FRONTS = {"gateway": ("rest-gateway", "make gateway"), "envoy": ("envoy", "make engines")}
"""The program of each, and what brings it."""


class AbsentError(Exception):
    """A program is missing; the message says what brings it."""


class Demo(NamedTuple):
    """Addresses, HOST:PORT, and the folder with tokens and certificates."""

    front: str
    contacts: str
    greeter: str
    folder: Path

    def token(self, client: str = "editor") -> str:
        """A bearer token for one of the issuer's clients, good for some minutes."""
        return (self.folder / "issuer" / f"{client}.token").read_text().strip()


@contextmanager
def running(
    front: str = "gateway",
    address: str = "127.0.0.1:0",
    flags: Sequence[str] = (),
    **environment: str,
) -> Iterator[Demo]:
    """Runs everything, each in a process of its own, and ends it. flags are for the front, the
    environment is ContactService's.

    Raises AbsentError, or RuntimeError when something does not start.
    """
    before = command(front)
    with tempfile.TemporaryDirectory(prefix="demo-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        certs = folder / "certs"
        certificates.make(certs)

        def start(name: str, command: Sequence[str], **environment: str) -> str:
            return stack.enter_context(process(command, folder / f"{name}.log", **environment))

        issuer = folder / "issuer"
        start(
            "issuer", [*_module("production.development_issuer"), "--port=0", f"--folder={issuer}"]
        )
        settings = {
            "CONTACTS_ADDRESS": "127.0.0.1:0",
            "CONTACTS_DATABASE": f"sqlite:///{folder}/contacts.db",
            "CONTACTS_CERTIFICATE": f"{certs}/server.pem",
            "CONTACTS_KEY": f"{certs}/server.key",
            "CONTACTS_CLIENT_CA": f"{certs}/ca.pem",
            "CONTACTS_ISSUERS": (issuer / "issuers.json").read_text(),
            "CONTACTS_LOG": "json",
        }
        contacts = start(
            "contacts", _module("production.contacts_server"), **settings | environment
        )
        contacts = contacts.replace("127.0.0.1", "localhost")  # As its certificate says.
        greeter = start("greeter", [*_module("rest_gateway.greeter_server"), "--port=0"])
        services = [f"--address={address}", f"--contacts={contacts}", f"--greeter={greeter}"]
        pair = [f"--certificate={certs}/gateway.pem", f"--key={certs}/gateway.key"]
        at = start(front, [*before, *services, f"--ca={certs}/ca.pem", *pair, *flags])
        yield Demo(at, contacts, greeter, folder)


def command(front: str) -> list[str]:
    """What starts a front. Raises AbsentError."""
    program, brings = FRONTS[front]
    found = shutil.which(program, path=PATH)
    if not found:
        raise AbsentError(f"{program} ({brings})")
    return [found] if front == "gateway" else _module("rest_gateway.envoy")


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


@contextmanager
def process(command: Sequence[str], log: Path, **environment: str) -> Iterator[str]:
    """A server in a process of its own, and its address. What it logs goes to a file.

    Raises RuntimeError when it does not start.
    """
    environment = {**os.environ, "PATH": PATH, **environment}
    with (
        log.open("w") as errors,
        child(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors) as started,
    ):
        line = started.stdout.readline() if started.stdout else ""
        if not line.startswith("listening on "):
            raise RuntimeError(log.read_text().strip() or f"{command[0]} does not start")
        yield line.removeprefix("listening on ").strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the services and a gateway before them.")
    parser.add_argument("--front", choices=FRONTS, default="gateway")
    parser.add_argument("--address", default="127.0.0.1:8080", help="HOST:PORT of the gateway")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        with running(args.front, args.address) as demo:
            if args.front == "gateway":
                print(f"Swagger UI: http://{demo.front}/docs/", flush=True)
            print(f"Authorization: Bearer {demo.token()}")
            print(f"logs: {demo.folder}/*.log", flush=True)
            signal.pause()
    except (AbsentError, RuntimeError) as error:
        sys.exit(f"error: {str(error).removeprefix('error: ')}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
