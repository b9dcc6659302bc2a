"""Runs the chapter: ContactService with TLS and tokens, GreeterService, a gateway in front of them.

Run it:

    python -m rest_gateway.demo
    python -m rest_gateway.demo --front envoy

It prints the addresses and a token, and ends with Ctrl-C.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from production.calling import addresses
from production.development import certificates, programs
from production.development.child import server
from production.development.programs import AbsentError

ROOT = Path(__file__).parent.parent
PROGRAMS = {"gateway": "rest-gateway", "envoy": "envoy"}
"""The program of each kind of gateway."""


class Demo(NamedTuple):
    """Addresses, HOST:PORT, and the folder with tokens and certificates."""

    front: str
    contacts: str
    greeter: str
    folder: Path

    def token(self, client: str = "editor") -> str:
        """Returns a bearer token for one of the issuer's clients, valid for some minutes."""
        return (self.folder / "issuer" / f"{client}.token").read_text().strip()


@contextmanager
def running(
    front: str = "gateway",
    address: str = "127.0.0.1:0",
    flags: Sequence[str] = (),
    *,
    echo: bool = False,
    **environment: str,
) -> Iterator[Demo]:
    """Runs everything, each in a process of its own, and ends it. flags are for the front, the
    environment is ContactService's. If echo is set, EchoService is offered, too.

    Raises AbsentError, or RuntimeError if something does not start.
    """
    before = command(front)
    with tempfile.TemporaryDirectory(prefix="demo-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        certs = folder / "certs"
        certificates.make(certs)

        def start(name: str, command: Sequence[str], **environment: str) -> str:
            environment = {**os.environ, "PATH": programs.PATH, **environment}
            _, address = stack.enter_context(
                server(command, log=folder / f"{name}.log", cwd=ROOT, env=environment)
            )
            return address

        issuer = folder / "issuer"
        start(
            "issuer", [*_module("production.development.issuer"), "--port=0", f"--folder={issuer}"]
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
        with_echo = ["--echo"] if echo else []
        greeter_server = _module("rest_gateway.greeter_server")
        greeter = start("greeter", [*greeter_server, "--port=0", *with_echo])
        services = [f"--address={address}", f"--contacts={contacts}", f"--greeter={greeter}"]
        pair = [f"--certificate={certs}/gateway.pem", f"--key={certs}/gateway.key"]
        if front == "gateway":
            flags = [*flags, *with_echo]
        at = start(front, [*before, *services, f"--ca={certs}/ca.pem", *pair, *flags])
        yield Demo(at, contacts, greeter, folder)


def command(front: str) -> list[str]:
    """The command that starts a front, without its flags. Raises AbsentError."""
    program = programs.find(PROGRAMS[front])
    return [program] if front == "gateway" else _module("rest_gateway.envoy")


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the services and a gateway in front of them.")
    parser.add_argument("--front", choices=PROGRAMS, default="gateway")
    parser.add_argument(
        "--address",
        type=addresses.address,
        default="127.0.0.1:8080",
        help="HOST:PORT of the gateway",
    )
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
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
