"""Runs a program in namespaces of its own, where buildah and podman leave nothing behind.

Their images, containers, networks and mounts are in a temporary folder and in the namespaces, so
that those of the user are neither seen nor changed. Processes, networks and mounts end with the
program, even by SIGKILL, which leaves the folder (deploy-* in the temporary folder) and groups of
processes without members. It needs root.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from production.development import programs
from production.development.child import child
from production.development.programs import AbsentError

FOLDER = "SANDBOX_FOLDER"
"""The variable that a program inside finds its folder by."""
PODS = "pods"
"""The file with the ids of all pods, and of their containers."""
UNSHARE = (
    # By the kernel, because a program that is killed cannot end its child.
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
CONFIG = """
[containers]
# The defaults are more than a host's own limit may allow.
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
# crun refuses cgroups v1 beside v2.
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
CGROUPS = Path("/sys/fs/cgroup")
REMOVAL_SECONDS = 10
LINES = 8
ALONE = (
    # In /run, podman's network remembers addresses.
    ("mount", "-t", "tmpfs", "tmpfs", "/run"),
    ("ip", "link", "set", "lo", "up"),
)
"""The commands that prepare namespaces with a network of their own."""


class EngineError(Exception):
    """buildah or podman has failed; the message ends with the last lines that it printed."""


class Engine:
    """buildah and podman, with everything that they keep in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = folder / "containers.conf"
        config.write_text(CONFIG)
        self._environment = os.environ | {"CONTAINERS_CONF": str(config)}
        self._storage = [f"--root={folder}/root", f"--runroot={folder}/run"]
        if _is_overlay(folder):
            self._storage.append("--storage-driver=vfs")
        (folder / "networks").mkdir()
        self._podman = [f"--network-config-dir={folder}/networks", f"--tmpdir={folder}/state"]

    def buildah(self, *arguments: str) -> str:
        """Returns what a command of buildah prints. Raises EngineError."""
        return self._run("buildah", *self._storage, *arguments).stdout

    def podman(self, *arguments: str) -> str:
        """Returns what a command of podman prints. Raises EngineError."""
        return self._run("podman", *self._storage, *self._podman, *arguments).stdout

    def play(self, file: Path, *options: str) -> None:
        """Starts the pods of a file. Raises EngineError."""
        printed = self.podman("play", "kube", *options, str(file))
        with (self.folder / PODS).open("a") as pods:
            pods.write("\n".join(re.findall(r"^[0-9a-f]{64}$", printed, re.M)) + "\n")

    def logs(self, container: str) -> str:
        """Returns what a container has printed to stdout, then to stderr. Raises EngineError."""
        done = self._run("podman", *self._storage, *self._podman, "logs", container)
        return (done.stdout + done.stderr).strip()

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [programs.find(program), *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()[-LINES:]
            raise EngineError("\n".join([f"{program} {arguments[-1]}", *lines]))
        return done


def _is_overlay(folder: Path) -> bool:
    """Returns whether a folder is in a container's file system, which cannot hold another's."""
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(command, capture_output=True, check=True).stdout == b"overlayfs\n"


def run(work: Callable[[Engine], None], *, has_network: bool) -> None:
    """Runs the program that calls it once more, in namespaces, and there does the work.

    Without has_network it has a network of its own, which reaches nothing outside. Ends the
    program, with an error if the work raises EngineError, AbsentError, OSError or RuntimeError.
    """
    for stopping in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stopping, lambda number, _frame: sys.exit(128 + number))
    try:
        if folder := os.environ.get(FOLDER):
            if not has_network:
                for command in ALONE:
                    subprocess.run(command, check=True)
            work(Engine(Path(folder)))
        else:
            sys.exit(_repeat(has_network))
    except (AbsentError, EngineError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _repeat(has_network: bool) -> int:
    """Runs this program in namespaces; returns its exit status. Raises AbsentError."""
    for program in ("buildah", "podman"):
        programs.find(program)
    spec = sys.modules["__main__"].__spec__
    assert spec  # noqa: S101 - it was started with -m.
    network = () if has_network else ("--net",)
    command = [sys.executable, "-m", spec.name, *sys.argv[1:]]
    folder = Path(tempfile.mkdtemp(prefix="deploy-"))
    folder.chmod(0o711)  # PostgreSQL is another user.
    try:
        with child(
            [*UNSHARE, *network, *command],
            ended_by=signal.SIGKILL,
            env=os.environ | {FOLDER: str(folder), "TMPDIR": str(folder)},
        ) as process:
            return process.wait()
    finally:
        pods = folder / PODS
        started = pods.read_text().split() if pods.exists() else []
        _remove(folder)
        _remove_cgroups(started)


def _remove_cgroups(pods: Sequence[str]) -> None:
    """Removes podman's groups of processes, which do not end with their processes."""
    groups = [group for pod in pods for group in CGROUPS.glob(f"**/libpod_parent/{pod}/**")]
    parents = {
        next(each for each in group.parents if each.name == "libpod_parent") for group in groups
    }
    for group in [*sorted(groups, reverse=True), *parents]:
        with suppress(OSError):  # A parent may have groups of others.
            group.rmdir()


def _remove(folder: Path) -> None:
    """Removes a folder, whose last mounts may end a moment after the processes."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=time.monotonic() < deadline)
