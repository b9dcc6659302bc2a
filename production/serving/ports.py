"""Finds out why a port is unavailable before gRPC tries it: gRPC's own error does not say why."""

import socket

from production.calling import addresses


class PortError(Exception):
    """An address is unavailable; the message names it and says why."""


def probe(address: str) -> None:
    """Raises PortError if another program has the address, or if it is not of this machine."""
    try:
        family, place = _resolve(address)
        # gRPC listens on [::] for IPv4, too.
        dual = place[0] == "::" and socket.has_dualstack_ipv6()
        socket.create_server(place, family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        raise PortError(f"{address}: {_reason(error)}") from None


def reserve(address: str) -> socket.socket:
    """Returns a socket that keeps an address for other processes, without listening on it.

    They share it by SO_REUSEPORT. Raises PortError if another program has the address.
    """
    probe(address)
    family, place = _resolve(address)
    reserved = socket.socket(family)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(place)
    return reserved


def _reason(error: OSError) -> str:
    """Returns the system's words. Python adds the address to them, which we have named."""
    return (error.strerror or str(error)).partition(" (while ")[0]


def _resolve(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Returns the family and place of an address; of a name's several, an IPv4 one."""
    host, port = addresses.parse(address)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, *_, place = min(found, key=lambda each: each[0])
    return family, (str(place[0]), port)
