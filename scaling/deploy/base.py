"""Makes a base image of Debian's packages, for machines that pull none from a registry.

Run it, as root; it takes a minute:

    python -m scaling.deploy.base build/base.tar
"""

import argparse
import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import grpc

from production.development import programs
from production.development.programs import AbsentError

SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates,libstdc++6"
"""The last is what wheels with C++ need, such as grpcio."""
UNUSED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
ENVIRONMENT = Path(grpc.__file__).parents[4]
"""The virtual environment with the packages, also of a session that has one of its own."""


class BaseError(RuntimeError):
    """The base cannot be made; the message is mmdebstrap's."""


def make(archive: Path) -> None:
    """Writes the root file system as a tar archive. Raises AbsentError, BaseError."""
    without = [f"--dpkgopt=path-exclude={path}" for path in UNUSED]
    command = [programs.find("mmdebstrap"), "--mode=root", "--variant=essential", *without]
    command += [f"--include={PACKAGES}", "--format=tar", SUITE, str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        archive.unlink(missing_ok=True)
        raise BaseError(f"mmdebstrap: {done.stderr.strip().splitlines()[-1]}")


def cached(folder: Path) -> Path:
    """Returns an archive as make writes it, made at the first call.

    It is kept in the virtual environment; in the folder, if there is none.
    """
    if (ENVIRONMENT / "pyvenv.cfg").exists():
        folder = ENVIRONMENT
    archive = folder / f"{SUITE}-base.tar"
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            unfinished = archive.with_suffix(".part")
            make(unfinished)
            unfinished.rename(archive)
    return archive


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a base image of Debian's packages.")
    parser.add_argument("archive", type=Path, help="the file to write; is replaced")
    args = parser.parse_args()
    try:
        shutil.copyfile(cached(args.archive.parent), args.archive)
    except (AbsentError, BaseError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {args.archive}")


if __name__ == "__main__":
    main()
