"""The files that are played and copied: the repository's, and none of installed packages."""

import subprocess
from pathlib import Path

import pytest

from tour import tree

OURS = [".gitignore", "README.md", "chapter/README.md", "chapter/new.py"]
THEIRS = [
    ".venv/lib/README.md",
    "build/out.txt",
    "chapter/__pycache__/new.pyc",
    "env/bin/tool",
    "env/pyvenv.cfg",
    "lib/python3.11/site-packages/their/README.md",
    "web/node_modules/their/README.md",
]


@pytest.fixture
def root(tmp_path):
    """A tree with environments in it, one of them in the root itself."""
    for name in [*OURS, *THEIRS, "pyvenv.cfg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("/secret.txt\n" if name == ".gitignore" else "")
    return tmp_path


def names(root):
    return [str(path) for path in tree.files(root)]


def test_a_downloaded_archive_without_git_is_listed_without_what_tools_have_made(root):
    assert names(root) == sorted([*OURS, "pyvenv.cfg"], key=Path)


def test_with_git_a_new_file_is_listed_and_an_ignored_or_deleted_one_is_not(root):
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    (root / "deleted.txt").write_text("")
    subprocess.run(["git", "add", "README.md", "deleted.txt"], cwd=root, check=True)
    (root / "deleted.txt").unlink()
    (root / "secret.txt").write_text("")

    assert names(root) == sorted([*OURS, "pyvenv.cfg"], key=Path)
