"""Envoy in front of the services, as envoy.yaml says.

    python -m rest_gateway.envoy --address 127.0.0.1:8080 --contacts localhost:50051 --plaintext

Ends with Ctrl-C.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from string import Template

import yaml
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from production.v1 import contacts_pb2
from protos.echo.v1 import echo_pb2
from rest_gateway.child import child
from rest_gateway.v1 import greeter_pb2

FOLDER = Path(__file__).parent
CONTRACTS = (contacts_pb2, greeter_pb2, echo_pb2, error_details_pb2, status_pb2)
START_SECONDS = 30
Address = tuple[str, int]


def write_descriptors(path: Path) -> None:
    """Writes the contracts, with all they import, as a FileDescriptorSet: the stubs know them."""
    found: dict[str, FileDescriptor] = {}

    def find(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            find(dependency)
        found[file.name] = file  # After what it imports.

    for contract in CONTRACTS:
        find(contract.DESCRIPTOR)
    descriptors = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(descriptors.file.add())
    path.write_bytes(descriptors.SerializeToString())


def write_config(file: Path, descriptors: Path, args: argparse.Namespace) -> None:
    """Writes envoy.yaml with its blanks filled in, as JSON. Paths of files become absolute."""
    blanks: dict[str, object] = {"DESCRIPTORS": str(descriptors), "ORIGIN": args.origin}
    for name, address in (
        ("", args.address),
        ("CONTACTS_", args.contacts),
        ("GREETER_", args.greeter),
    ):
        blanks[f"{name}HOST"], blanks[f"{name}PORT"] = address
    for name in ("ca", "certificate", "key"):
        blanks[name.upper()] = str(getattr(args, name).absolute())
    config = yaml.safe_load(Template((FOLDER / "envoy.yaml").read_text()).substitute(blanks))
    if args.plaintext:
        for cluster in config["static_resources"]["clusters"]:
            cluster.pop("transport_socket", None)
    file.write_text(json.dumps(config))


def run(args: argparse.Namespace) -> int:
    """Runs Envoy until it ends; returns its exit status. KeyboardInterrupt ends it."""
    program = shutil.which("envoy", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    if not program:
        sys.exit("error: there is no envoy: `make engines` brings it")
    with tempfile.TemporaryDirectory(prefix="envoy-") as folder, _reserved(args.address) as address:
        args.address = address
        config, descriptors = Path(folder) / "envoy.json", Path(folder) / "contracts.binpb"
        write_descriptors(descriptors)
        write_config(config, descriptors, args)
        command = [program, "--config-path", str(config), "--use-dynamic-base-id"]
        with child([*command, "--log-level", "error"]) as process:
            _wait_until_listening(process, address)
            print(f"listening on {address[0]}:{address[1]}", flush=True)
            return process.wait()


@contextmanager
def _reserved(address: Address) -> Iterator[Address]:
    """The address, with a free port for 0. The port is ours meanwhile: Envoy may share it, for it
    listens with SO_REUSEPORT, and others may not."""
    host, port = address
    try:
        socket.create_server(address).close()
    except OSError as error:
        sys.exit(f"error: {host}:{port}: {error.strerror}")
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        yield held.getsockname()


def _wait_until_listening(process: subprocess.Popen[str], address: Address) -> None:
    """Returns when Envoy takes connections. Ends the program when Envoy does."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(address, 1):
            return
        time.sleep(0.05)
    sys.exit("error: envoy does not start; see above")


def host_and_port(value: str) -> Address:
    """HOST:PORT in two parts."""
    host, _, port = value.rpartition(":")
    if not host or not 0 <= int(port) < 65536:
        raise ValueError
    return host, int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run Envoy in front of the services.")
    for name, default, what in (
        ("address", "127.0.0.1:8080", "to listen on"),
        ("contacts", "localhost:50051", "of ContactService"),
        ("greeter", "localhost:50052", "of GreeterService and EchoService"),
    ):
        text = f"HOST:PORT {what} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=host_and_port, default=default, help=text)
    parser.add_argument(
        "--origin",
        default="http://localhost:3000",
        help="a web page's that may call (default: %(default)s)",
    )
    parser.add_argument("--plaintext", action="store_true", help="call ContactService without TLS")
    certs = Path("build/certs")
    for name, file, what in (
        ("ca", "ca.pem", "the authority that signed ContactService's certificate"),
        ("certificate", "gateway.pem", "the certificate to show to ContactService"),
        ("key", "gateway.key", "its key"),
    ):
        text = f"{what} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=Path, default=certs / file, help=text)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # As Ctrl-C.
    with suppress(KeyboardInterrupt):
        sys.exit(run(args))


if __name__ == "__main__":
    main()
