"""`make new-service`: what it refuses, and services that pass their tests as they are written."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest

from production.development import new_service
from production.development.new_service import (
    Names,
    NewServiceError,
    names_of,
    write,
    write_repository,
)
from tests.conftest import ROOT, WAIT
from tour import tree

FORM = "must be lower-case letters, digits and single underscores"
REFUSED = [
    ("", "", f"NAME '': {FORM}"),
    ("Orders", "", f"NAME 'Orders': {FORM}"),
    ("order-items", "", f"NAME 'order-items': {FORM}"),
    ("_orders", "", f"NAME '_orders': {FORM}"),
    ("order__items", "", f"NAME 'order__items': {FORM}"),
    ("../orders", "", f"NAME '../orders': {FORM}"),
    ("bestellungené", "", f"NAME 'bestellungené': {FORM}"),
    ("orders", "Order", f"RESOURCE 'Order': {FORM}"),
    ("class", "x", "NAME 'class': is a keyword of Python"),
    ("matches", "match", "RESOURCE 'match': is a keyword of Python"),
    ("yields", "", "RESOURCE 'yield': is a keyword of Python"),
    ("lists", "", "RESOURCE 'list': is a builtin of Python"),
    ("types", "", "NAME 'types': is a module of Python's standard library"),
    ("json", "", "NAME 'json': is a module of Python's standard library"),
    ("serving", "served", "NAME 'serving': is the name of a folder beside it"),
    ("production", "product", "NAME 'production': is the name of a folder beside it"),
    ("grpc", "call", "NAME 'grpc': is an installed package"),
    ("values", "", "NAME 'values': is a word of SQL"),
    ("sheep", "", "NAME 'sheep': name one of them, too: RESOURCE="),
    ("glass", "", "NAME 'glass': name one of them, too: RESOURCE="),
    ("series", "series", "RESOURCE 'series': must differ from NAME"),
    ("statuses", "status", "'Status' means something else in every service"),
    ("pages", "", "'page' means something else in every service"),
    ("owners", "", "'owner' means something else in every service"),
    ("settings", "", "'Settings' means something else in every service"),
]
NOUN = "parcel"


@pytest.mark.parametrize(("plural", "singular", "reason"), REFUSED)
def test_a_name_that_cannot_be_is_refused(plural, singular, reason):
    with pytest.raises(NewServiceError) as raised:
        names_of(plural, singular)

    assert str(raised.value).startswith(reason)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["orders"], ("orders", "order")),
        (["buses", "bus"], ("buses", "bus")),
        (["order_items"], ("order_items", "order_item")),
        (["series", "series_item"], ("series", "series_item")),
        (["helloworld", "greeting"], ("helloworld", "greeting")),  # A repository may have it, too.
    ],
)
def test_other_names_are_taken(given, names):
    assert names_of(*given) == names


@pytest.mark.parametrize(
    ("names", "text", "renamed"),
    [
        (Names("buses", "bus"), "a parcel, A Parcel of parcels", "a bus, A Bus of buses"),
        (Names("orders", "order"), "a parcel: lambda parcel", "an order: lambda order"),
        (Names("orders", "order"), "a_parcel, a parcel_id", "an_order, an order_id"),
        (Names("orders", "order"), "data_parcel", "data_order"),
        (Names("orders", "order"), "PARCELS_X PARCEL_ID", "ORDERS_X ORDER_ID"),
        (Names("orders", "order"), "production.starter.parcels", "orders.orders"),
        (Names("order_items", "order_item"), "ListParcels", "ListOrderItems"),
        (Names("order_items", "order_item"), "parcels/{parcel}", "orderItems/{order_item}"),
        (Names("order_items", "order_item"), "//parcels.example.com", "//order-items.example.com"),
    ],
)
def test_names_replace_each_spelling(names, text, renamed):
    assert names.rename(text) == renamed


def test_the_noun_of_the_starter_occurs_nowhere_else():
    """So every place that has it is one to rename."""
    found = [
        str(path)
        for path in tree.files(ROOT)
        if not str(path).startswith("production/starter/")
        and NOUN in (ROOT / path).read_bytes().decode(errors="replace").lower()
    ]

    assert set(found) == {
        "production/development/new_service.py",
        "tests/production/test_new_service.py",
        "tests/production/test_rooms.py",  # Where it lists modules.
    }


def test_an_existing_folder_is_never_overwritten(tmp_path):
    taken = tmp_path / "orders"
    taken.mkdir()

    with pytest.raises(NewServiceError, match="orders exists already; nothing was written"):
        write(Names("orders", "order"), taken)
    taken.rmdir()
    taken.symlink_to(tmp_path / "nowhere")
    with pytest.raises(NewServiceError, match="exists already"):
        write(Names("orders", "order"), taken)
    assert list(tmp_path.iterdir()) == [taken]


@pytest.mark.parametrize(
    ("into", "said"),
    [
        ("none/shop", "none is not a folder; nothing was written"),
        (".", ". exists already; nothing was written"),
        ("taken shop", "taken shop exists already; nothing was written"),
    ],
)
def test_make_hands_on_the_whole_path_of_a_repository(into, said, tmp_path):
    (tmp_path / "taken shop").mkdir()
    target = into if into == "." else tmp_path / into

    done = subprocess.run(
        [
            *("make", "--silent", "new-service", "NAME=orders", f"INTO={target}"),
            *(f"BIN={sysconfig.get_path('scripts')}", "--assume-old=.venv/.ready-lint"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken shop"]


@pytest.mark.parametrize("step", ["copy", "generate", "tidy"])
def test_a_failure_leaves_nothing_behind(step, tmp_path, monkeypatch):
    def fail(*_):
        raise NewServiceError("in the middle")

    monkeypatch.setattr(new_service, step, fail)

    with pytest.raises(NewServiceError, match="in the middle"):
        write(Names("orders", "order"), tmp_path / "orders")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(new_service, "tidy", interrupt)
    monkeypatch.setattr(sys, "argv", ["new_service", "orders", f"--into={tmp_path / 'shop'}"])

    with pytest.raises(SystemExit, match="error: interrupted; nothing was written"):
        new_service.main()
    assert list(tmp_path.iterdir()) == []


def test_the_stubs_need_no_active_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)

    write(Names("orders", "order"), tmp_path / "orders")

    assert (tmp_path / "orders" / "v1" / "orders_pb2_grpc.pyi").exists()


def test_the_program_says_in_one_line_what_is_wrong(run):
    taken = run("production.development.new_service", "production")
    hyphen = run("production.development.new_service", "order-items")

    assert taken.stderr == "error: production exists already; nothing was written\n"
    assert hyphen.stderr.startswith(f"error: NAME 'order-items': {FORM}")
    assert (taken.returncode, hyphen.returncode) == (1, 1)


@pytest.fixture
def copy(tmp_path):
    """A copy of the repository, without environments and what was built."""
    for path in tree.files(ROOT):
        target = tmp_path / "copy" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)
    return tmp_path / "copy"


def python(folder, *args, **options):
    done = subprocess.run(
        [sys.executable, *args], cwd=folder, capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "names", [["buses", "--resource=bus"], ["series", "--resource=series_item"], ["order_items"]]
)
def test_a_new_service_passes_lint_and_its_tests(copy, names):
    name = names[0]
    before = sorted(copy.iterdir())

    said = python(copy, "-m", "production.development.new_service", *names)

    assert f"python -m pytest {name}/tests" in said
    assert sorted(copy.iterdir()) == sorted([*before, copy / name])
    text = "".join(path.read_text() for path in (copy / name).rglob("*") if path.is_file())
    assert re.findall(rf"{NOUN}|starter", text, re.I) == []
    python(copy, "-m", "ruff", "check", name)
    python(copy, "-m", "ruff", "format", "--check", name)
    python(copy, "-m", "mypy", name)
    tests = python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{name}/tests")
    assert re.search(r"[1-9]\d passed in", tests)
    if os.environ.get("TOUR_REQUIRE") == "all":
        assert "skipped" not in tests


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_sessions_of_a_new_service_can_be_typed(copy):
    python(copy, "-m", "production.development.new_service", "orders")

    python(copy, "-m", "tour", "orders", timeout=9 * WAIT)


@pytest.fixture
def repository(tmp_path):
    """A repository of its own, whose make finds the packages of this environment."""
    folder = tmp_path / "shop"
    write_repository(Names("order_items", "order_item"), folder)
    git(folder, "init", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-m", "x")
    return folder


def git(folder, *args):
    return subprocess.run(
        ["git", *args], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def make(folder, *args):
    """Runs make without setting up an environment."""
    ready = folder / "build" / ".ready"
    ready.parent.mkdir(exist_ok=True)
    ready.touch()
    binaries = sysconfig.get_path("scripts")
    return subprocess.run(
        ["make", *args, f"BIN={binaries}", "VENV=build"], cwd=folder, capture_output=True, text=True
    )


@pytest.mark.slow
def test_nothing_of_ours_is_left_in_a_repository_of_its_own(repository):
    ours = r"contact|tutorial|\bproduction|chapter|lesson|starter|address book|\btour"
    left = []
    for name in git(repository, "ls-files").split():
        text = (repository / name).read_text()
        left += [f"{name}: {found}" for found in re.findall(rf"{ours}|{NOUN}", text, re.I)]

    # It says how to take later fixes of folders that are called so here.
    assert {line for line in left if not line.startswith("serving/CHANGELOG.md")} == set()
    assert (repository / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    origin = (repository / "serving" / "ORIGIN").read_text().strip()
    assert origin == git(ROOT, "rev-parse", "HEAD").strip()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_repository_of_its_own_passes_its_lint_and_tests(repository):
    for target in ("lint", "test", "breaking"):
        done = make(repository, target, "AGAINST=main")
        assert done.returncode == 0, done.stdout + done.stderr
    assert git(repository, "status", "--short") == ""

    contract = repository / "order_items" / "v1" / "order_items.proto"
    contract.write_text(contract.read_text().replace("description = 3;", "description = 30;"))
    broken = make(repository, "breaking", "AGAINST=main")
    assert 'present field "3"' in broken.stdout + broken.stderr
    assert "run 'make protos'" in make(repository, "lint").stderr


@pytest.mark.slow
def test_a_later_fix_is_taken_by_the_recipe(repository, copy):
    git(copy, "init")
    git(copy, "add", "--all")
    commit = ["-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-m", "x"]
    git(copy, *commit)
    (repository / "serving" / "ORIGIN").write_text(git(copy, "rev-parse", "HEAD"))
    for module, before in (
        ("serving/storage/writes.py", "10_000"),
        ("calling/channels.py", "3_000"),
    ):
        path = copy / "production" / module
        path.write_text(path.read_text().replace(before, "20_000"))
    git(copy, *commit, "--all")
    text = (repository / "serving" / "CHANGELOG.md").read_text()
    diff, take = re.findall(r"```sh\n(.*?)```", text, re.S)

    shell = f"{diff}\n{take.splitlines()[0]}".replace("../origin", str(copy))
    subprocess.run(["sh", "-ec", shell], cwd=repository, check=True, capture_output=True)

    assert git(repository, "diff", "--name-only").split() == [
        "calling/channels.py",
        "serving/ORIGIN",
        "serving/storage/writes.py",
    ]
    assert "20_000" in (repository / "serving" / "storage" / "writes.py").read_text()


def test_a_repository_of_its_own_pins_the_versions_of_ours():
    ours = (ROOT / "requirements.in").read_text() + (ROOT / "requirements-lint.in").read_text()
    pins = "".join(path.read_text() for path in (new_service.STARTER / "repository").glob("*.in"))

    found = set(re.findall(r"^[\w\[\]-]+==\S+", pins, re.M))
    assert len(found) >= 30
    assert found <= set(re.findall(r"^[\w\[\]-]+==\S+", ours, re.M))
