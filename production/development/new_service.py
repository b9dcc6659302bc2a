"""Writes a new service: a copy of production/starter with names of your own, or a whole repository.

Run it:

    python -m production.development.new_service orders

`make new-service NAME=orders` does the same. A second name is that of one of them, where it is not
the first without its s; a folder gets a repository that needs nothing of this one:

    python -m production.development.new_service buses --resource bus --into ../buses
"""

import argparse
import ast
import builtins
import importlib.util
import io
import keyword
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from google.rpc import error_details_pb2
from sqlalchemy.dialects import postgresql, sqlite

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "production" / "starter"
DEVELOPMENT = Path(__file__).parent
GOOGLE_APIS = Path(error_details_pb2.__file__).parents[2]
SQL_WORDS = {
    *postgresql.dialect.preparer.reserved_words,
    *sqlite.dialect.preparer.reserved_words,
}
MOST_LETTERS = 20
"""So that no line of a comment becomes too long."""
FORM = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
TAKEN = {"serving", "calling", "development", "operations", "build", "tests", "production"}
"""Folders of a repository of its own, and the one that they come from."""
NOT_COPIED = ("__pycache__", ".*_cache", "*_pb2*.py", "*_pb2*.pyi", "repository")
"""What the copy gets from its own contract, or makes itself, or does not need."""
SHARED = {
    "production/starter/repository": ".",
    "scaling/deploy/Dockerfile": "Dockerfile",
    "production/serving": "serving",
    "production/calling": "calling",
    "production/operations/alerts.yml": "operations/alerts.yml",
    "production/operations/dashboard.json": "operations/dashboard.json",
    "conftest.py": "conftest.py",
    ".editorconfig": ".editorconfig",
    "LICENSE": "LICENSE",
}
"""What a repository of its own gets beside the service, and where."""
STAND_INS = ("certificates", "fixtures", "issuer", "postgresql")
"""The modules of production/development that it gets, with those that they import."""


class NewServiceError(Exception):
    """The service cannot be written; the message says why, or what to name it instead."""


class Names(NamedTuple):
    """What the copy's resource is called, in place of the starter's."""

    plural: str
    singular: str

    def rename(self, text: str) -> str:
        """Returns a text of the starter with these names."""
        spellings = {
            "production.starter": self.plural,
            "production/starter/repository/": "",
            "production/starter": self.plural,
            "parcels.example.com": f"{self.plural.replace('_', '-')}.example.com",
            # AIP-122 and 123: collections and types in resource names are in camelCase.
            "parcels/": f"{_camel(self.plural)}/",
            "/v1/parcels:": f"/v1/{_camel(self.plural)}:",
            '/v1/parcels"': f'/v1/{_camel(self.plural)}"',
            'plural: "parcels"': f'plural: "{_camel(self.plural)}"',
            'singular: "parcel"': f'singular: "{_camel(self.singular)}"',
            "parcels": self.plural,
            "parcel": self.singular,
            "Parcels": _capital(self.plural),
            "Parcel": _capital(self.singular),
            "PARCELS": self.plural.upper(),
            "PARCEL": self.singular.upper(),
        }
        if self.singular[0] in "aeio":
            text = re.sub(r"(?<![A-Za-z])([Aa])([ _]parcel)(?=\b|_)", r"\1n\2", text)
        return _replace(spellings, text)

    def adopt(self, text: str) -> str:
        """Returns a text for a repository of its own, where folders of ours are at the top."""
        spellings = {
            "production.contacts.": f"{self.plural}.",
            "production.contacts_server": f"{self.plural}.{self.plural}_server",
            "--file scaling/deploy/Dockerfile ": "",
            "production.": "",
            "production/": "",
            '"production"': f'"{self.plural}"',
            "contacts.example.com": f"{self.plural.replace('_', '-')}.example.com",
            "contacts": self.plural,
            "contact": self.singular,
            "Contacts": _capital(self.plural),
            "Contact": _capital(self.singular),
            "CONTACTS": self.plural.upper(),
            "TOUR_REQUIRE": "TEST_REQUIRE",
        }
        return _replace(spellings, text)


def _replace(spellings: Mapping[str, str], text: str) -> str:
    longest_first = sorted(spellings, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    return re.sub(pattern, lambda found: spellings[found[0]], text)


def _capital(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _camel(name: str) -> str:
    capital = _capital(name)
    return capital[0].lower() + capital[1:]


def names_of(plural: str, singular: str = "") -> Names:
    """Checks the names of a service and of its resource. Raises NewServiceError.

    Without a singular it is the plural without its s.
    """
    if reason := _reason_against(plural) or _reason_against_folder(plural):
        raise NewServiceError(f"NAME {plural!r}: {reason}")
    if not singular and (not plural.endswith("s") or plural.endswith("ss")):
        raise NewServiceError(f"NAME {plural!r}: name one of them, too: RESOURCE=…")
    singular = singular or plural.removesuffix("s")
    if singular == plural:
        raise NewServiceError(f"RESOURCE {singular!r}: must differ from NAME")
    if reason := _reason_against(singular):
        raise NewServiceError(f"RESOURCE {singular!r}: {reason}")
    names = Names(plural, singular)
    _check_distinct(names)
    return names


def _reason_against(name: str) -> str:
    """Returns why a name cannot be that of a variable and a field, or nothing."""
    if not FORM.fullmatch(name):
        return "must be lower-case letters, digits and single underscores, such as order_items"
    if len(name) > MOST_LETTERS:
        return f"must have at most {MOST_LETTERS} letters"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "is a keyword of Python"
    return "is a builtin of Python" if name in dir(builtins) else ""


def _reason_against_folder(name: str) -> str:
    """Returns why a name cannot be that of a package and a table, or nothing."""
    if name in sys.stdlib_module_names:
        return "is a module of Python's standard library"
    if name in TAKEN:
        return "is the name of a folder beside it"
    if name in SQL_WORDS:
        return "is a word of SQL, and would name a table"
    # A folder of this repository is no obstacle to another one; check_free finds it for this one.
    spec = importlib.util.find_spec(name)
    folders = (spec and spec.submodule_search_locations) or []
    return "is an installed package" if spec and str(ROOT / name) not in folders else ""


def _check_distinct(names: Names) -> None:
    """Raises NewServiceError if a name is one that the starter uses for something else."""
    words = {word for path in STARTER.rglob("*") for word in _words(path)}
    kept = {word for word in words if names.rename(word) == word}
    for word in sorted(words - kept):
        if (new := names.rename(word)) in kept:
            raise NewServiceError(
                f"{new!r} means something else in every service: choose another NAME or RESOURCE"
            )


def _words(path: Path) -> Iterator[str]:
    """Yields the words of a module or contract, without those of comments and docstrings."""
    if path.suffix == ".proto":
        yield from re.findall(r"\w+", re.sub(r"//.*", "", path.read_text()))
    elif path.suffix == ".py" and "_pb2" not in path.name and "tests" not in path.parts:
        source = path.read_text()
        lines = {
            node.lineno
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type != tokenize.COMMENT and token.start[0] not in lines:
                yield from re.findall(r"[^\W\d]\w*", token.string)


def check_free(folder: Path) -> None:
    """Raises NewServiceError if something is in a folder's place, or it has no place."""
    if folder.exists() or folder.is_symlink():
        raise NewServiceError(f"{folder.name or folder} exists already; nothing was written")
    if not folder.parent.is_dir():
        raise NewServiceError(f"{folder.parent} is not a folder; nothing was written")


def write(names: Names, folder: Path) -> None:
    """Writes the service's package to a folder which must not exist. Raises NewServiceError.

    Nothing is left of it if that fails.
    """
    with _appearing(folder) as temporary:
        package = temporary / names.plural
        copy(STARTER, package, names.rename)
        generate(temporary, package)
        tidy(temporary, names)
        package.rename(folder)


def write_repository(names: Names, folder: Path) -> None:
    """Writes a repository of its own, as write does. Raises NewServiceError."""

    def rename(text: str) -> str:
        return names.adopt(names.rename(text))

    with _appearing(folder) as temporary:
        repository, package = temporary / "repository", temporary / "repository" / names.plural
        for source, target in SHARED.items():
            copy(ROOT / source, repository / target, rename)
        for name in {"__init__", *_with_imports(STAND_INS)}:
            module = DEVELOPMENT / f"{name}.py"
            copy(module, repository / "development" / module.name, rename)
        copy(STARTER, package, rename)
        generate(repository, package)
        _finish(repository)
        tidy(repository, names)
        repository.rename(folder)


def _with_imports(names: Iterable[str]) -> set[str]:
    """Returns names of modules beside this one, and of those that they import from beside it."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and (DEVELOPMENT / f"{name}.py").exists():
            found.add(name)
            source = (DEVELOPMENT / f"{name}.py").read_text()
            waiting += re.findall(r"production\.development\.(\w+) import", source)
            waiting += re.findall(r"production\.development import (\w+)", source)
    return found


def _finish(repository: Path) -> None:
    """Removes what the repository does not have, and records the commit that it came from."""
    programs = repository / "development" / "programs.py"
    others = r'    "[\w-]+": "(?!apt install postgresql").*",\n'
    programs.write_text(re.sub(others, "", programs.read_text()))
    dockerfile = repository / "Dockerfile"
    ours = r"COPY (protobuf_demo|__init__\.py|v\d).*\n"  # Its contract is in the service's folder.
    dockerfile.write_text(re.sub(ours, "", dockerfile.read_text()))
    alerts = repository / "operations" / "alerts.yml"
    first, rest = alerts.read_text().split("\n", 1)
    alerts.write_text(f"{first}\n{rest[rest.index('groups:') :]}")  # Between are names of pages.
    # As it is, because it names folders of this repository.
    changelog = "serving/CHANGELOG.md"
    shutil.copyfile(STARTER / "repository" / changelog, repository / changelog)
    (repository / "serving" / "ORIGIN").write_text(_commit())


def _commit() -> str:
    """Returns the commit of this repository, if it is a clone."""
    try:
        return _run(ROOT, "git", "rev-parse", "HEAD")
    except (NewServiceError, OSError):
        return "unknown\n"


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder beside a new one, so that the new one can appear in one step."""
    check_free(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as temporary:
            yield Path(temporary)
    except OSError as error:
        raise NewServiceError(f"{error.filename}: {error.strerror}") from None


def copy(source: Path, target: Path, rename: Callable[[str], str]) -> None:
    """Copies a text file, or a folder of them, with other names in paths and texts."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rename(source.read_text()))
        return
    ignore = shutil.ignore_patterns(*NOT_COPIED)
    shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True)
    for path in sorted(target.rglob("*")):
        if path.is_file():
            path.write_text(rename(path.read_text()))
            path.rename(path.with_name(rename(path.name)))


def generate(root: Path, package: Path) -> None:
    """Writes the stubs of a package below root, as `make protos` does."""
    protos = sorted(str(path.relative_to(root)) for path in package.rglob("*.proto"))
    outputs = [
        f"--{plugin}_out={options}."
        for plugin, options in (
            ("python", ""),
            ("mypy", "quiet:"),
            ("grpc_python", ""),
            ("mypy_grpc", "quiet:"),
        )
    ]
    # Named by path, because the environment need not be an active one.
    scripts = Path(sysconfig.get_path("scripts"))
    plugins = [
        f"--plugin={program}={scripts / program}"
        for program in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"-I{GOOGLE_APIS}", *plugins]
    _run(root, *protoc, *outputs, *protos)


def tidy(folder: Path, names: Names) -> None:
    """Sorts imports and breaks lines anew, because names have other lengths."""
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--quiet", "--no-cache", "--config", str(ROOT / "pyproject.toml"), "."]
    ours = ", ".join(f"'{name}'" for name in (names.plural, *TAKEN))
    known = f"lint.isort.known-first-party=[{ours}]"
    _run(folder, *ruff, "check", "--select=I", "--fix", "--config", known, *config)
    _run(folder, *ruff, "format", *config)


def _run(folder: Path, *command: str) -> str:
    """Returns what a command prints. Raises NewServiceError."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NewServiceError(f"{' '.join(command)}: {done.stderr or done.stdout}".strip())
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a service of your own.")
    parser.add_argument("name", help="the service and its folder, such as orders")
    parser.add_argument("--resource", default="", help="one of them (default: without the s)")
    parser.add_argument("--into", type=Path, help="a new folder, for a repository of its own")
    args = parser.parse_args()
    folder = args.into or ROOT / args.name
    try:
        if args.into or FORM.fullmatch(args.name):
            check_free(folder)
        names = names_of(args.name, args.resource)
        (write_repository if args.into else write)(names, folder)
    except NewServiceError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; nothing was written")
    print(f"wrote {args.into or names.plural}, a service whose resource is {names.singular}")
    if args.into:
        print("Go there, make it a repository of git, and type: make lint test")
    else:
        print("In every terminal:  source .venv/bin/activate")
        print(f"Its tests:  python -m pytest {names.plural}/tests")
        print(f"How to use and change it:  {names.plural}/README.md")
        print("make lint, make test and make protos include the folder.")


if __name__ == "__main__":
    main()
