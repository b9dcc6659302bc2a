"""Backs up an SQLite file while it is in use."""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path


def back_up(source: Path, target: Path) -> None:
    """Writes a copy of one moment, for its owner alone. Nobody waits for it.

    The target is replaced only when the copy has been checked and is on disk. Raises OSError,
    sqlite3.Error, and ValueError if the copy is damaged or the target is the source.
    """
    if target.exists() and target.samefile(source):
        # Whoever has it open would continue to write to a file that has no name any more.
        raise ValueError(f"{target} is the database itself")
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.")  # Mode 0600.
    copy = Path(name)
    try:
        with closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)
        ) as original:
            original.execute("VACUUM INTO ?", [name])
        _check(copy)
        os.fsync(handle)
        copy.replace(target)
        _sync_folder(target.parent)
    finally:
        os.close(handle)
        copy.unlink(missing_ok=True)


def _check(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        (problem,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if problem != "ok":
        raise ValueError(f"the copy is damaged: {problem}")


def _sync_folder(folder: Path) -> None:
    """Makes a rename in the folder last."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
