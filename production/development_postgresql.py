"""A PostgreSQL to try things out with: empty, on this machine alone, gone when it ends.

    python -m production.development_postgresql --port 5432

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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PROGRAMS = os.pathsep.join(  # Debian keeps them off the PATH.
    [os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
)
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class AbsentError(Exception):
    """This machine has no PostgreSQL."""


@contextmanager
def running(port: int | None = None) -> Iterator[str]:
    """Runs PostgreSQL for a block; gives the URL of a database, with {} for its name.

    It listens on a Unix socket, with a port on 127.0.0.1, too; whoever reaches it is let in.
    Raises AbsentError, and RuntimeError when it does not start.
    """
    initdb, postgres = (shutil.which(name, path=PROGRAMS) for name in ("initdb", "postgres"))
    if not (initdb and postgres):
        raise AbsentError("PostgreSQL is absent: apt install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # Short: a socket's path may have 100 characters.
    try:
        user = _unprivileged(folder)
        data = str(folder / "data")
        command = [initdb, "--no-sync", "--auth=trust", "--username=postgres", "-D", data]
        subprocess.run([*user, *command], check=True, stdout=subprocess.DEVNULL, cwd=folder)
        where = [f"--port={port}", "-h", "127.0.0.1"] if port else ["-h", ""]
        command = [postgres, "-D", data, "-k", str(folder), "-c", "fsync=off", *where]
        with subprocess.Popen(
            [*user, *command],
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for us to pass on.
        ) as process:
            assert process.stderr  # noqa: S101 - for the type checker.
            _wait_until_ready(process.stderr)
            # Goes on reading: a full pipe would stop the database.
            threading.Thread(target=process.stderr.read).start()
            try:
                at = f"127.0.0.1:{port}" if port else ""
                yield f"postgresql+psycopg://postgres@{at}/{{}}" + (
                    "" if port else f"?host={folder}"
                )
            finally:
                process.send_signal(signal.SIGINT)  # Ends it although connections are open.
    finally:
        shutil.rmtree(folder)


def _unprivileged(folder: Path) -> list[str]:
    """What runs a command as "nobody", to whom folder is given: PostgreSQL refuses root."""
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
        if "ready to accept connections" in line:
            return
        if "FATAL" in line:
            last = line.strip()
    raise RuntimeError(last or "PostgreSQL did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run an empty PostgreSQL until Ctrl-C.")
    parser.add_argument("--port", type=int, default=5432, help="(default: %(default)s)")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with running(args.port):
            print(f"listening on 127.0.0.1:{args.port}", flush=True)
            signal.sigwait(STOP_SIGNALS)
    except (AbsentError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
