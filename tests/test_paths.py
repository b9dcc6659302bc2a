"""The files that comments, docstrings, help texts and settings name exist."""

import ast
import io
import re
import tokenize

from tests.conftest import ROOT
from tour import tree

FILES = tree.files(ROOT)
NAMES = {path.name for path in FILES}
NAMED = re.compile(
    r"(?<![\w./:@~$*{}<>-])((?:\.\./)*(?:[\w-]+/)*[\w-]+"
    r"\.(?:cfg|conf|go|json|md|proto|py|svg|toml|txt|ya?ml))(?![\w/*-]|\.\w)"
)
MADE = ("buf/", "build/", "google/")
"""Folders of what is made, and of contracts that a package brings."""
WHOLE = {".cfg", ".conf", ".go", ".proto", ".toml", ".yaml", ".yml"}
"""Kinds of file that are searched as a whole."""
HELP = {"description", "epilog", "help"}


def python_texts(source):
    """The comments, docstrings and help texts of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(ast.Constant(str(text))):
                yield text
            case ast.keyword(arg, value) if arg in HELP:
                for part in ast.walk(value):
                    if isinstance(part, ast.Constant):
                        yield str(part.value)


def named_files():
    """Each path, or name of a file, with the file that names it."""
    for path in FILES:
        texts = []
        if path.suffix == ".py" and "_pb2" not in path.name:
            texts = python_texts((ROOT / path).read_text())
        elif path.suffix in WHOLE or path.name == "Makefile":
            texts = [(ROOT / path).read_text()]
        for text in texts:
            for named in NAMED.findall(text):
                yield path, named


def test_every_file_that_is_named_exists():
    """A path begins at the root or beside the file that names it; a name alone may be anywhere."""
    assert [
        f"{path}: {named}"
        for path, named in named_files()
        if not named.startswith(MADE)
        and named not in NAMES
        and not (ROOT / named).exists()
        and not (ROOT / path.parent / named).exists()
    ] == []
