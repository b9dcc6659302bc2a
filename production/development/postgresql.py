"""Runs an empty PostgreSQL, reachable from this machine only, and deletes it at the end.

Run it:

    python -m production.development.postgresql --port 5432

A second one can be a standby of the first, with streaming replication:

    python -m production.development.postgresql --port 5433 --primary-port 5432

It needs PostgreSQL's own programs (Debian: apt install postgresql).
"""

import argparse
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from production.calling import addresses
from production.development import programs
from production.development.programs import AbsentError

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Certificate(NamedTuple):
    """Files of a certificate and its key, PEM."""

    certificate: Path
    key: Path


class PostgreSQL(NamedTuple):
    """A running server."""

    url: str
    """The URL of a database, with {} for its name."""
    process: subprocess.Popen[str]


@contextmanager
def running(port: int | None = None) -> Iterator[str]:
    """Runs PostgreSQL for a block; gives the URL of a database, with {} for its name.

    It listens on a Unix socket, or on 127.0.0.1 too if it gets a port, and asks for no password.
    Raises AbsentError, and RuntimeError if it does not start.
    """
    with server(port) as started:
        yield started.url


@contextmanager
def server(
    port: int | None = None, *, primary_port: int | None = None, tls: Certificate | None = None
) -> Iterator[PostgreSQL]:
    """Runs PostgreSQL as running does; as a standby of the one on a port, or with TLS.

    Raises subprocess.CalledProcessError if the standby cannot copy the other's data.
    """
    postgres = programs.find("postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # Short: a socket's path may have 100 characters.
    try:
        user = _unprivileged(folder)
        data = folder / "data"
        subprocess.run(
            [*user, *_fill(data, primary_port)], check=True, stdout=subprocess.DEVNULL, cwd=folder
        )
        where = [f"--port={port}", "-h", "127.0.0.1"] if port else ["-h", ""]
        options = [*where, *(_serve_tls(data, tls) if tls else [])]
        command = [postgres, "-D", str(data), "-k", str(folder), "-c", "fsync=off", *options]
        with subprocess.Popen(
            [*user, *command],
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for us to pass on.
        ) as process:
            assert process.stderr  # noqa: S101 - for the type checker.
            _wait_until_ready(process.stderr)
            # Keep reading: a full pipe would stop the database.
            threading.Thread(target=process.stderr.read).start()
            try:
                at = f"127.0.0.1:{port}" if port else ""
                socket = "" if port else f"?host={folder}"
                yield PostgreSQL(f"postgresql+psycopg://postgres@{at}/{{}}{socket}", process)
            finally:
                process.send_signal(signal.SIGINT)  # Ends it although connections are open.
    finally:
        shutil.rmtree(folder)


def _fill(data: Path, primary_port: int | None) -> Sequence[str]:
    """Returns the command that makes a server's folder: empty, or as another server's standby."""
    if primary_port is None:
        initdb = programs.find("initdb")
        return [initdb, "--no-sync", "--auth=trust", "--username=postgres", "-D", str(data)]
    primary = f"host=127.0.0.1 port={primary_port} user=postgres"
    copy = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D", str(data)]
    return [programs.find("pg_basebackup"), "-d", primary, *copy]


def _serve_tls(data: Path, tls: Certificate) -> list[str]:
    """Copies a certificate to where its owner alone can read the key; returns the options."""
    owner = data.stat()
    options = ["-c", "ssl=on"]
    for setting, source in zip(("ssl_cert_file", "ssl_key_file"), tls, strict=True):
        copy = data / f"{setting}.pem"
        copy.touch(0o600)
        copy.write_bytes(source.read_bytes())
        os.chown(copy, owner.st_uid, owner.st_gid)
        options += ["-c", f"{setting}={copy}"]
    return options


def _unprivileged(folder: Path) -> list[str]:
    """Returns the prefix that runs a command as "nobody", the new owner of folder, if we are root:
    PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # Not Popen's own `user`, which forks: gRPC's threads do not survive a fork.
    return [
        "setpriv",
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        "--",
    ]


def _wait_until_ready(log: IO[str]) -> None:
    last = ""
    for line in log:
        if "ready to accept" in line:  # Connections or, on a standby, read-only connections.
            return
        if "FATAL" in line:
            last = line.strip()
    raise RuntimeError(last or "PostgreSQL did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run an empty PostgreSQL until Ctrl-C.")
    parser.add_argument("--port", type=addresses.port, default=5432, help="(default: %(default)s)")
    parser.add_argument(
        "--primary-port",
        type=addresses.port,
        metavar="PORT",
        help="be the standby of the server on this port",
    )
    parser.add_argument("--certificate", type=Path, help="serve TLS with it; needs --key")
    parser.add_argument("--key", type=Path, help="private key of the certificate")
    args = parser.parse_args()
    if bool(args.certificate) != bool(args.key):
        parser.error("--certificate and --key need each other")
    tls = Certificate(args.certificate, args.key) if args.key else None
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with server(args.port, primary_port=args.primary_port, tls=tls):
            print(f"listening on 127.0.0.1:{args.port}", flush=True)
            signal.sigwait(STOP_SIGNALS)
    except (AbsentError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
