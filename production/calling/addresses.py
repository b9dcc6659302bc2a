"""Addresses as HOST:PORT. An IPv6 address is in brackets, as in [::1]:50051."""

import argparse
import ipaddress
import re
from typing import NamedTuple

FORM = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[\w.-]+)):(?P<port>[0-9]{1,5})")
SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|xds):\S+")
MAX_PORT = 65_535


class Address(NamedTuple):
    """A host and a port."""

    host: str
    """Without brackets, as sockets take it."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(value: str) -> Address:
    """Splits HOST:PORT. Raises ValueError."""
    form = FORM.fullmatch(value)
    if not form or int(form["port"]) > MAX_PORT:
        raise ValueError(
            f"expected HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051, got {value!r}"
        )
    if form["ipv6"]:
        try:
            ipaddress.IPv6Address(form["ipv6"])
        except ValueError as error:
            raise ValueError(f"{value!r}: {error}") from None
    return Address(form["ipv6"] or form["host"], int(form["port"]))


def argument(value: str) -> Address:
    """Splits a flag."""
    try:
        return parse(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def address(value: str) -> str:
    """Checks a flag that is an address to listen on; port 0 takes any free one."""
    return str(argument(value))


def target(value: str) -> str:
    """Checks a flag that is a server's address, or a name as gRPC's resolvers take it (dns:///…).

    gRPC would take port 70000, and connect to 4464.
    """
    port = re.search(r":([0-9]+)$", value)
    if SCHEME.fullmatch(value) and not FORM.fullmatch(value):
        if not port or 1 <= int(port[1]) <= MAX_PORT:
            return value
    elif port and int(port[1]):
        return address(value)
    raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {value!r}")


def port(value: str) -> int:
    """Checks a flag that is a port to listen on; 0 takes any free one."""
    if not (value.isascii() and value.isdecimal() and int(value) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"expected a port, 0 to {MAX_PORT}, got {value!r}")
    return int(value)
