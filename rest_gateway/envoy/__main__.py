"""Runs Envoy in front of the services, with the configuration in envoy.yaml.

Run it:

    python -m rest_gateway.envoy --address 127.0.0.1:8080 --contacts localhost:50051 --plaintext

Ends with Ctrl-C.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

import yaml
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from production.calling import addresses
from production.calling.addresses import Address
from production.development import programs
from production.development.child import child, wait_until_connected
from production.development.programs import AbsentError
from production.serving import ports
from production.serving.ports import PortError
from production.v1 import contacts_pb2
from protos.echo.v1 import echo_pb2
from rest_gateway.v1 import greeter_pb2

FOLDER = Path(__file__).parent
BACKSTOP = 5
"""Seconds after a call's time limit at which Envoy ends it if the service has not."""
CONTRACTS = (contacts_pb2, greeter_pb2, echo_pb2, error_details_pb2, status_pb2)


def write_descriptors(path: Path) -> None:
    """Writes the contracts and all that they import, from the stubs, as a FileDescriptorSet."""
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
    blanks: dict[str, object] = {
        "DESCRIPTORS": str(descriptors),
        "ORIGIN": args.origin,
        "TIMEOUT": args.timeout,
        "BACKSTOP": args.timeout + BACKSTOP,
        "KEEPALIVE": args.keepalive,
    }
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
    """Runs Envoy until it ends; returns its exit status. KeyboardInterrupt ends it.

    Raises AbsentError, or RuntimeError if it does not start.
    """
    program = programs.find("envoy")
    with tempfile.TemporaryDirectory(prefix="envoy-") as folder, _reserved(args.address) as address:
        args.address = address
        config, descriptors = Path(folder) / "envoy.json", Path(folder) / "contracts.binpb"
        write_descriptors(descriptors)
        write_config(config, descriptors, args)
        # A hot restart would need shared memory, which stays behind when Envoy is killed.
        command = [program, "--config-path", str(config), "--disable-hot-restart"]
        with child([*command, "--log-level", "error"]) as process:
            wait_until_connected(process, address)
            print(f"listening on {address}", flush=True)
            return process.wait()


@contextmanager
def _reserved(address: Address) -> Iterator[Address]:
    """Reserves the address for a block, and chooses a free port for 0. Envoy can share the port
    with us because it listens with SO_REUSEPORT."""
    try:
        held = ports.reserve(str(address))
    except PortError as error:
        sys.exit(f"error: {error}")
    with held:
        yield Address(address.host, held.getsockname()[1])


def _seconds(text: str) -> int:
    """Returns the whole seconds, 1 to 3600, that a flag holds. Raises ArgumentTypeError."""
    if not text.isdecimal() or not 1 <= int(text) <= 3600:
        raise argparse.ArgumentTypeError(f"expected 1 to 3600 seconds, got {text!r}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run Envoy in front of the services.")
    for name, default, what in (
        ("address", "127.0.0.1:8080", "to listen on"),
        ("contacts", "localhost:50051", "of ContactService"),
        ("greeter", "localhost:50052", "of GreeterService and EchoService"),
    ):
        text = f"HOST:PORT {what} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=addresses.argument, default=default, help=text)
    parser.add_argument(
        "--origin",
        default="http://localhost:3000",
        help="origin of the web page that may call (default: %(default)s)",
    )
    for name, seconds, what in (
        ("timeout", 30, "how long a call may take; its own deadline may be shorter"),
        ("keepalive", 20, "after how long Envoy pings an HTTP/2 client"),
    ):
        text = f"SECONDS: {what} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=_seconds, default=seconds, help=text)
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
    try:
        sys.exit(run(args))
    except (AbsentError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
