"""Makes API keys that sign calls, for the server and for a client.

Run it:

    python -m production.contacts.api_keys add build/api-keys.json laptop --client build/laptop.json
"""

import argparse
import fcntl
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from production.contacts.access import ACCESS


def add_key(
    file: Path, key: str, principal: str, scopes: list[str], audience: str, client: Path
) -> None:
    """Adds a new key to the server's file, and writes the client's part to a file of its own.

    Raises OSError, and ValueError if the server's file already has the key or is the client's, too.
    """
    if client.resolve() == file.resolve():
        raise ValueError(f"{client} is the server's file; the client's part needs one of its own")
    with _locked(file.resolve().parent):
        content = json.loads(file.read_bytes()) if file.exists() else {}
        if key in content:
            raise ValueError(f"{file} already has a key {key}")
        secret = secrets.token_urlsafe(33)
        content[key] = {"secret": secret, "principal": principal, "scopes": scopes}
        _write_secret(client, {"key": key, "secret": secret, "audience": audience})
        _write_secret(file, content)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps out other processes that lock the folder: a file in it that is replaced has no lock."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _write_secret(file: Path, content: object) -> None:
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as opened:  # Mode 0600.
        json.dump(content, opened, indent=1)
    Path(opened.name).replace(file)


def _key_id(value: str) -> str:
    if not re.fullmatch("[a-z0-9-]{1,40}", value):
        raise argparse.ArgumentTypeError("must be 1 to 40 lower-case letters, digits and hyphens")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="Make keys that sign calls.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("add", help="make a key for the server and for a client")
    command.add_argument("file", type=Path, help="the server's file of keys")
    command.add_argument("key", type=_key_id, help="the key's name")
    command.add_argument(
        "--client", type=Path, required=True, help="the client's key file, which is written"
    )
    command.add_argument("--principal", help="who signs with it (default: the key's name)")
    command.add_argument(
        "--audience",
        default="https://contacts.example.com",
        help="the server's CONTACTS_AUDIENCE (default: %(default)s)",
    )
    scopes = sorted(ACCESS.known_scopes)
    command.add_argument("--scopes", nargs="+", choices=scopes, default=scopes)
    args = parser.parse_args()
    try:
        principal = args.principal or args.key
        add_key(args.file, args.key, principal, args.scopes, args.audience, args.client)
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"added {args.key} to {args.file}; the client's part is in {args.client}")


if __name__ == "__main__":
    main()
