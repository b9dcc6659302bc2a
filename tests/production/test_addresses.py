"""Addresses as flags and settings take them."""

import argparse
import socket

import pytest

from production.calling import addresses
from production.serving import ports
from production.serving.ports import PortError


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051),
        ("[::1]:0", "::1", 0),
        ("localhost:65535", "localhost", 65535),
        ("contacts.default.svc:1", "contacts.default.svc", 1),
    ],
)
def test_an_address_is_split_and_put_together(value, host, port):
    assert addresses.parse(value) == (host, port)
    assert str(addresses.parse(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            ":50051",
            "localhost",
            "localhost:",
            "localhost:65536",
            "localhost:+1",
            "localhost:٣",
        ),
        *("::1:50051", "[::1]", "[::g]:1", "[1:2]:3", "a b:1", "http://localhost:1"),
    ],
)
def test_what_is_no_address_is_refused(value):
    for check in (addresses.parse, addresses.address, addresses.target):
        with pytest.raises((ValueError, argparse.ArgumentTypeError)):
            check(value)


@pytest.mark.parametrize(
    "value",
    ["localhost:1", "dns:///a:50051", "unix:/tmp/a", "ipv4:1.1.1.1:1,2.2.2.2:2", "xds:///a"],
)
def test_a_client_takes_every_target_of_grpc(value):
    assert addresses.target(value) == value


@pytest.mark.parametrize("value", ["localhost:0", "dns:///localhost:70000", "ipv4:1.1.1.1:70000"])
def test_a_client_refuses_a_port_that_grpc_would_cut(value):
    with pytest.raises(argparse.ArgumentTypeError, match="expected HOST:PORT"):
        addresses.target(value)


@pytest.mark.parametrize("value", ["-1", "65536", "x", "", "٣"])
def test_a_port_is_checked(value):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a port"):
        addresses.port(value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_named_with_the_reason(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        address = str(addresses.Address(host, taken.getsockname()[1]))
        with pytest.raises(PortError) as refused:
            ports.probe(address)
    assert str(refused.value) == f"{address}: Address already in use"
    ports.probe(address)


def test_the_other_reasons_are_named():
    with pytest.raises(PortError, match=r"^192\.0\.2\.1:1: Cannot assign requested address$"):
        ports.probe("192.0.2.1:1")
    with pytest.raises(PortError, match=r"^nowhere\.invalid:1: "):
        ports.probe("nowhere.invalid:1")
