"""Runs a proxy before gRPC servers, as its configuration beside this file says.

    python -m scaling.proxies.proxy envoy --port 8443 --backends localhost:50051,localhost:50052

TLS is at the edge, with the certificates of `make certs`; tcp passes on what comes. Ctrl-C ends it.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from string import Template
from typing import NamedTuple

from rest_gateway.child import child

HOST = "127.0.0.1"
START_SECONDS = 30
PATH = os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"], "/usr/sbin"))
Address = tuple[str, int]


class AbsentError(Exception):
    """A program is missing; the message says what brings it."""


class Engine(NamedTuple):
    """A program, what brings it, its configuration, and its arguments before the file's name."""

    program: str
    brings: str
    config: str
    arguments: tuple[str, ...]


ENGINES = {
    "envoy": Engine(
        "envoy",
        "make engines",
        "envoy.yaml",
        ("--use-dynamic-base-id", "--log-level", "error", "-c"),
    ),
    "nginx": Engine("nginx", "apt install nginx-light", "nginx.conf", ("-c",)),
    "haproxy": Engine("haproxy", "apt install haproxy", "haproxy.cfg", ("-db", "-q", "-f")),
    "tcp": Engine("haproxy", "apt install haproxy", "tcp.cfg", ("-db", "-q", "-f")),
}


def render(template: str, backends: Sequence[Address], **blanks: object) -> str:
    """The template with its blanks filled in, and each line for a backend once for each."""
    text = ""
    for line in template.splitlines(keepends=True):
        if "${BACKEND_" in line and not line.lstrip().startswith("#"):
            for number, (host, port) in enumerate(backends, 1):
                each = {"BACKEND_NAME": f"b{number}", "BACKEND_HOST": host, "BACKEND_PORT": port}
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
    change: tuple[str, str] = ("", ""),
) -> Iterator[str]:
    """Runs a proxy while entered; gives its address. Port 0 takes any. change is a text of its
    configuration, and what stands there instead.

    Raises AbsentError, or RuntimeError when it does not start.
    """
    engine = ENGINES[name]
    program = shutil.which(engine.program, path=PATH)
    if not program:
        raise AbsentError(f"{engine.program} ({engine.brings})")
    certificate, key = (certs / "server.pem").absolute(), (certs / "server.key").absolute()
    with tempfile.TemporaryDirectory(prefix="proxy-") as temporary:
        folder = Path(temporary)
        bundle = folder / "bundle.pem"  # HAProxy wants both in one file.
        if name != "tcp":
            bundle.write_bytes(certificate.read_bytes() + key.read_bytes())
        port = port or _free_port()
        template = (Path(__file__).parent / engine.config).read_text().replace(*change)
        blanks = {"CERTIFICATE": certificate, "KEY": key, "BUNDLE": bundle, "FOLDER": folder}
        config = folder / engine.config
        config.write_text(render(template, backends, PORT=port, **blanks))
        command = [program, *engine.arguments, str(config)]
        with child(command) as process:
            _wait_until_listening(process, port)
            yield f"{HOST}:{port}"


def _free_port() -> int:
    """A port that is free now. Proxies cannot tell which one they have taken, so they are told."""
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


def _wait_until_listening(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((HOST, port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("the proxy does not start; see above")


def addresses(value: str) -> list[Address]:
    """HOST:PORT,HOST:PORT,… in their parts."""
    parts = [each.strip().rpartition(":") for each in value.split(",")]
    if not all(host and 0 < int(port) < 65536 for host, _, port in parts):
        raise ValueError
    return [(host, int(port)) for host, _, port in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a proxy before gRPC servers.")
    parser.add_argument("proxy", choices=ENGINES)
    parser.add_argument("--port", type=int, default=8443, help="(default: %(default)s)")
    parser.add_argument("--backends", type=addresses, required=True, help="HOST:PORT,HOST:PORT,…")
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
