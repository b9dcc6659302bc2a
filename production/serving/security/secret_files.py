"""Files that hold secrets, and who may read them."""

import logging
from contextlib import suppress
from pathlib import Path

OTHERS, GROUP_WRITE_AND_OTHERS = 0o077, 0o037

log = logging.getLogger(__name__)


def is_exposed(file: Path) -> bool:
    """Returns whether others can read the file. Raises OSError.

    The group of a file of root's may read it, because that is how Kubernetes mounts secrets
    (`fsGroup`, with a `defaultMode` of 0440).
    """
    status = file.stat()
    return bool(status.st_mode & (OTHERS if status.st_uid else GROUP_WRITE_AND_OTHERS))


def warn_if_exposed(file: Path) -> None:
    """Logs a warning if others can read the file."""
    with suppress(OSError):  # It was removed meanwhile.
        if is_exposed(file):
            log.warning("%s holds a secret, and others can read it: chmod 600 %s", file, file)
