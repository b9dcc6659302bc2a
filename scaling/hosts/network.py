"""Network namespaces as hosts, each with a line to this program that can be cut, lossy or slow.

A program calls `enter` first: from then on it is itself a host, in a network of its own, and the
router between the others. All of it belongs to processes of this program, so the kernel removes it
with them, however they end. It needs no root if the kernel lets users have namespaces of their own.
"""

import array
import fcntl
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from production.development import child, programs

OUTSIDE = "HOSTS_OUTSIDE"
"""The variable that names the network this program was started in."""
INTERFACE = "eth0"
NETWORKS = itertools.count(1)
SIOCETHTOOL = 0x8946
OFFLOADS = (0x17, 0x1F, 0x24)
"""ETHTOOL_STXCSUM, STSO and SGSO of linux/ethtool.h: checksums and segmentation by the device."""


def enter(module: str) -> None:
    """Runs this program, a module, again in a network of its own; returns in there.

    Exits with an error if this machine lacks what the module needs.
    """
    try:
        programs.require(module)
    except programs.AbsentError as error:
        sys.exit(f"error: this machine lacks {error}")
    network = str(Path("/proc/self/ns/net").stat().st_ino)
    if os.environ.get(OUTSIDE, network) == network:
        os.environ[OUTSIDE] = network
        command = [*programs.new_network(), sys.executable, *sys.orig_argv[1:]]
        os.execv(command[0], command)  # noqa: S606 - the command is our own.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))  # Cleaning up.
    _run("ip", "link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


class Host:
    """A network namespace, with one line to this program."""

    def __init__(self, name: str, address: str, process: int) -> None:
        self.name, self.address = name, address
        """Its name, which is also that of our end of the line, and its IPv4 address."""
        self._network = f"--net=/proc/{process}/ns/net"
        self._rule: list[str] = []

    def command(self, *command: str) -> list[str]:
        """Returns the command that runs a command on this host, for as long as we live."""
        inside = [programs.find("nsenter"), self._network]
        return [*inside, *tied(*command)]

    def python(self, module: str, *args: str) -> list[str]:
        """Returns the command that runs a module on this host."""
        return self.command(sys.executable, "-m", module, *args)

    def run(self, *command: str) -> None:
        """Runs a command on this host to its end. Raises subprocess.CalledProcessError."""
        subprocess.run(self.command(*command), check=True, stdout=subprocess.DEVNULL)

    def cut(self) -> None:
        """Drops every packet from and to this host, without an error to anybody."""
        self._drop(["-j", "DROP"])

    def lose(self, fraction: float) -> None:
        """Drops a fraction of the packets from and to this host, at random."""
        chance = ["--mode", "random", "--probability", str(fraction)]
        self._drop(["-m", "statistic", *chance, "-j", "DROP"])

    def heal(self) -> None:
        """Lets every packet pass again."""
        self._drop([])

    def _drop(self, rule: list[str]) -> None:
        """Replaces the rule by which each end drops what arrives from the other one."""
        iptables = [programs.find("iptables"), "-t", "raw"]
        for change, which in (("-D", self._rule), ("-A", rule)):
            if which:
                self.run(*iptables, change, "PREROUTING", "-i", INTERFACE, *which)
                here = [*iptables, change, "PREROUTING", "-i", self.name, *which]
                subprocess.run(here, check=True)
        self._rule = rule

    def limit(self, kbit: int) -> None:
        """Limits what each end sends to `kbit` kilobits a second; 50 ms of it wait, or are lost."""
        self._shape("tbf", "rate", f"{kbit}kbit", "burst", "5kb", "latency", "50ms")

    def _shape(self, *discipline: str) -> None:
        """Replaces the way in which each end sends."""
        _run("tc", "qdisc", "replace", "dev", self.name, "root", *discipline)
        tc = programs.find("tc")
        self.run(tc, "qdisc", "replace", "dev", INTERFACE, "root", *discipline)


@contextmanager
def host(name: str, *, delay_ms: int = 0, congestion: str = "cubic") -> Iterator[Host]:
    """Makes a host for a block; packets take `delay_ms` milliseconds each way.

    congestion is how TCP reacts to losses on the line; Linux's default, whatever this machine uses.
    """
    network = next(NETWORKS)
    here, there = f"10.0.{network}.1", f"10.0.{network}.2"
    with ExitStack() as stack:
        process = stack.enter_context(_namespace())
        made = Host(name, there, process)
        ends = [name, f"{name}-far"]
        if delay_ms:
            _connect(name, f"{name}-in")
            _connect(f"{name}-out", f"{name}-far")
            stack.enter_context(_slow(f"{name}-in", f"{name}-out", delay_ms))
        else:
            _connect(*ends)
        ip = programs.find("ip")
        _run("ip", "link", "set", ends[1], "name", INTERFACE, "netns", str(process))
        _run("ip", "address", "add", f"{here}/24", "dev", name)
        _run("ip", "link", "set", name, "up")
        made.run(ip, "address", "add", f"{there}/24", "dev", INTERFACE)
        made.run(ip, "link", "set", INTERFACE, "up")
        made.run(ip, "link", "set", "lo", "up")
        made.run(ip, "route", "add", "default", "via", here)
        subnet, control = f"10.0.{network}.0/24", ["congctl", congestion]
        _run("ip", "route", "change", subnet, "dev", name, "src", here, *control)
        made.run(ip, "route", "change", subnet, "dev", INTERFACE, "src", there, *control)
        yield made


@contextmanager
def _namespace() -> Iterator[int]:
    """Holds a network namespace; gives the id of the process that is in it."""
    command = tied(programs.find("unshare"), "--net", "cat")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with child.child(command, ended_by=signal.SIGKILL, **pipes) as process:
        assert process.stdin and process.stdout  # noqa: S101 - for the type checker.
        process.stdin.write("in\n")
        process.stdin.flush()
        if process.stdout.readline() != "in\n":  # What answers is cat, so it is in there.
            raise RuntimeError("no network namespace; see above")
        yield process.pid


def _connect(one: str, other: str) -> None:
    """Makes a line between two interfaces."""
    _run("ip", "link", "add", one, "type", "veth", "peer", "name", other)
    for interface in (one, other):
        _send_single_packets(interface)


def _send_single_packets(interface: str) -> None:
    """Lets the kernel cut data into packets, and finish them, before they are on the line.

    By default a virtual interface gets up to 64 KiB at once: one loss would lose 40 packets.
    """
    with socket.socket() as any_socket:
        for offload in OFFLOADS:
            value = array.array("I", [offload, 0])
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)


@contextmanager
def _slow(one: str, other: str, delay_ms: int) -> Iterator[None]:
    """Passes packets on between two interfaces, each after a delay."""
    command = [sys.executable, "-m", "scaling.hosts.slow_line", one, other, f"--ms={delay_ms}"]
    for interface in (one, other):
        _run("ip", "link", "set", interface, "arp", "off", "up")
    with child.server(tied(*command), ended_by=signal.SIGKILL):
        yield


def tied(*command: str) -> list[str]:
    """Returns the command that the kernel ends when this program ends."""
    return [programs.find("setpriv"), "--pdeathsig=KILL", *command]


def _run(program: str, *args: str) -> None:
    subprocess.run([programs.find(program), *args], check=True)
