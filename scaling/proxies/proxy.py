"""Runs a proxy in front of gRPC servers, with the configuration beside this file.

Run it:

    python -m scaling.proxies.proxy envoy --port 8443 --backends localhost:50051,localhost:50052

TLS ends at the proxy, with the certificates of `make certs`; tcp forwards bytes as they come.
Ctrl-C ends it.
"""

import argparse
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import NamedTuple

from production.calling import addresses
from production.calling.addresses import Address
from production.development import programs
from production.development.child import child, wait_until_connected
from production.development.programs import AbsentError

HOST = "127.0.0.1"


class Engine(NamedTuple):
    """A program, its configuration beside this file, and its arguments in front of that path."""

    title: str
    program: str
    config: str
    arguments: tuple[str, ...]
    has_tls: bool = True


ENGINES = {
    "envoy": Engine(
        # Without hot restart, several can run on one machine, and leave nothing in /dev/shm.
        "Envoy",
        "envoy",
        "envoy.yaml",
        ("--disable-hot-restart", "--log-level", "error", "-c"),
    ),
    "nginx": Engine("nginx", "nginx", "nginx.conf", ("-c",)),
    "haproxy": Engine("HAProxy", "haproxy", "haproxy.cfg", ("-db", "-q", "-f")),
    "tcp": Engine("TCP", "haproxy", "tcp.cfg", ("-db", "-q", "-f"), has_tls=False),
}
"""The proxies of --help, the comparison and the rolling restart. Their programs are in INSTALL."""

LISTEN = re.compile(r"(?P<listen>listen .* ssl)(?P<options>.*;)\n *http2 on;.*")
HTTP2_DIRECTIVE = (1, 25, 1)
"""The first version of nginx with `http2 on;`. It deprecates `http2` after `listen`."""


def for_version(template: str, version: str) -> str:
    """Returns nginx.conf as this version of nginx, such as 1.22.1, reads it."""
    if tuple(map(int, version.split("."))) >= HTTP2_DIRECTIVE:
        return template
    return LISTEN.sub(r"\g<listen> http2\g<options>", template)


def nginx_version(program: str) -> str:
    """Returns the version of an nginx, such as 1.22.1."""
    printed = subprocess.run([program, "-v"], check=True, capture_output=True, text=True).stderr
    return printed.partition("nginx/")[2].split()[0]


def render(template: str, backends: Sequence[Address], **blanks: object) -> str:
    """Fills in the blanks of a template, and repeats each line with ${BACKEND_...} per backend."""
    text = ""
    for line in template.splitlines(keepends=True):
        if "${BACKEND_" in line and not line.lstrip().startswith("#"):
            for number, (host, port) in enumerate(backends, 1):
                each = {
                    "BACKEND_NAME": f"b{number}",
                    "BACKEND_ADDRESS": Address(host, port),
                    "BACKEND_HOST": host,
                    "BACKEND_PORT": port,
                }
                text += Template(line).safe_substitute(each)
        else:
            text += line
    return Template(text).safe_substitute(blanks)


@contextmanager
def running(
    name: str,
    port: int,
    backends: Sequence[Address],
    certs: Path,
    changes: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Runs a proxy for a block; gives its address. Port 0 takes any. changes are texts of its
    configuration and what replaces them.

    Raises AbsentError, RuntimeError if it does not start, or ValueError if a text is not there.
    """
    engine = ENGINES[name]
    program = programs.find(engine.program)
    certificate, key = (certs / "server.pem").absolute(), (certs / "server.key").absolute()
    with tempfile.TemporaryDirectory(prefix="proxy-") as temporary:
        folder = Path(temporary)
        bundle = folder / "bundle.pem"  # HAProxy wants both in one file.
        if engine.has_tls:
            bundle.write_bytes(certificate.read_bytes() + key.read_bytes())
        port = port or free_port()
        template = (Path(__file__).parent / engine.config).read_text()
        for text, substitute in (changes or {}).items():
            if text not in template:
                raise ValueError(f"{engine.config} does not contain {text!r}")
            template = template.replace(text, substitute)
        if engine.program == "nginx":
            template = for_version(template, nginx_version(program))
        blanks = {"CERTIFICATE": certificate, "KEY": key, "BUNDLE": bundle, "FOLDER": folder}
        config = folder / engine.config
        config.write_text(render(template, backends, PORT=port, **blanks))
        command = [*_with_parent(), program, *engine.arguments, str(config)]
        with child(command) as process:
            try:
                wait_until_connected(process, (HOST, port))
            except RuntimeError:
                raise RuntimeError(f"{engine.program} does not start; see above") from None
            yield f"{HOST}:{port}"


def _with_parent() -> list[str]:
    """Returns what starts a program so that it ends even if the thread that starts it is killed.

    A killed program cannot end its child, and nginx and HAProxy survive the hang-up of a terminal.
    """
    setpriv = shutil.which("setpriv")  # Linux has it.
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def free_port() -> int:
    """Returns a free port: proxies do not report the port that they take for 0."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


def split(value: str) -> list[Address]:
    """Splits HOST:PORT,HOST:PORT,…; raises argparse.ArgumentTypeError."""
    return [addresses.argument(addresses.target(each.strip())) for each in value.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a proxy in front of gRPC servers.")
    parser.add_argument("proxy", choices=ENGINES)
    parser.add_argument("--port", type=addresses.port, default=8443, help="(default: %(default)s)")
    parser.add_argument("--backends", type=split, required=True, help="HOST:PORT,HOST:PORT,…")
    certs = Path("build/certs")
    parser.add_argument("--certs", type=Path, default=certs, help="(default: %(default)s)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        with running(args.proxy, args.port, args.backends, args.certs) as address:
            print(f"listening on {address}", flush=True)
            signal.pause()
    except (AbsentError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
