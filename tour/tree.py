"""Lists the files of the repository, without those of installed packages."""

import shutil
import subprocess
from pathlib import Path

MADE_BY_TOOLS = {"__pycache__", "build", "node_modules", "site-packages"}
LIST = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]


def files(root: Path) -> list[Path]:
    """Returns the files at root that git tracks or would add, relative to root, sorted.

    Without git, as in a downloaded archive, it returns all files. Folders made by tools and virtual
    environments are left out.
    """
    try:
        listed = subprocess.run(LIST, cwd=root, capture_output=True, check=True).stdout.decode()
        paths = [Path(name) for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path.relative_to(root) for path in root.rglob("*")]
    environments = {path.parent for path in paths if path.name == "pyvenv.cfg"}

    def is_ours(path: Path) -> bool:
        return not any(
            folder in environments or folder.name in MADE_BY_TOOLS or folder.name.startswith(".")
            for folder in path.parents
            if folder.name
        )

    return sorted(path for path in paths if is_ours(path) and (root / path).is_file())


def copy(root: Path, directory: Path) -> None:
    """Copies the files at root into directory, with their times."""
    for path in files(root):
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, directory / path)
