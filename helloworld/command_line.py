"""Checks the values of the clients' command-line flags, before gRPC sees them."""

import argparse


def address(value: str) -> str:
    """Returns value if it is HOST:PORT. gRPC would take port 70000, and connect to 4464."""
    host, _, port = text(value).rpartition(":")
    if not (host and port.isdecimal() and 1 <= int(port) <= 65535):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {value!r}")
    return value


def text(value: str) -> str:
    """Returns value if it is valid UTF-8, as protobuf needs. A command line may hold any bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"expected UTF-8 text, got {value!r}") from None
    return value


def seconds(value: str) -> float:
    """Returns value as a number of seconds. gRPC would take 1e300 to mean "at once"."""
    if not 0 < float(value) <= 86_400:
        raise argparse.ArgumentTypeError(f"expected up to 86400 seconds, above 0, got {value!r}")
    return float(value)
