"""The chapter's command lines, as processes."""

import json
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from google.protobuf import text_format
from google.protobuf.timestamp_pb2 import Timestamp

from protobuf_demo.addressbook_pb2 import AddressBook, Person
from tests.conftest import ROOT
from tests.protobuf_demo import official

ADD = "protobuf_demo.add_person"
LIST = "protobuf_demo.list_people"
WIRE = "protobuf_demo.wire_format"
ADA = Person(
    name="Ada",
    id=1,
    email="ada@example.org",
    phones=[
        Person.PhoneNumber(number="1", type=Person.MOBILE),
        Person.PhoneNumber(number="2", type=Person.WORK),
    ],
)


def people(file):
    """The people in a file, without the times they were added."""
    book = AddressBook.FromString(file.read_bytes())
    for person in book.people:
        assert person.HasField("last_updated")
        person.ClearField("last_updated")
    return list(book.people)


def test_flags_leave_nothing_to_ask(file, run):
    flags = [
        "--id=1",
        "--name=Ada",
        "--email=ada@example.org",
        "--phone=mobile:1",
        "--phone=WORK:2",
    ]

    result = run(ADD, str(file), *flags, stdin=subprocess.DEVNULL)

    assert result.returncode == 0
    assert result.stdout == f"added Ada to {file}\n"
    assert people(file) == [ADA]


def test_answers_make_the_same_person(file, run):
    result = run(ADD, str(file), input="1\nAda\nada@example.org\n1\nmobile\n2\nwork\n\n")

    assert result.returncode == 0
    assert result.stdout == (
        "Enter person ID number: Enter name: Enter email address (blank for none): "
        "Enter a phone number (or leave blank to finish): Is this a mobile, home, or work phone? "
        "Enter a phone number (or leave blank to finish): Is this a mobile, home, or work phone? "
        f"Enter a phone number (or leave blank to finish): added Ada to {file}\n"
    )
    assert people(file) == [ADA]


def test_a_bad_answer_is_asked_again(file, run):
    run(ADD, str(file), "--id", "1", "--name", "Ada")

    result = run(ADD, str(file), input="x\n0\n1\n2\n\n  \nGrace\n\n3\nboat\n\nhome\n\n")

    assert result.returncode == 0
    assert people(file)[1] == Person(
        name="Grace", id=2, phones=[Person.PhoneNumber(number="3", type=Person.HOME)]
    )
    assert result.stderr.count("; once more, please\n") == 7
    assert "id 1 is taken; once more, please" in result.stderr


def test_an_id_taken_while_we_ask_is_asked_again_and_nothing_typed_is_lost(file, spawn, run):
    run(ADD, str(file), "--id", "1", "--name", "Ada")
    process = spawn("-m", ADD, str(file), "--name", "Grace")
    process.stdin.write("2\n")
    process.stdin.flush()
    prompts = process.stdout.read(len("Enter person ID number: Enter email"))
    assert prompts.endswith("Enter email")

    run(ADD, str(file), "--id", "2", "--name", "Faster")
    process.communicate("\n\n3\n")

    assert process.returncode == 0
    assert [(p.id, p.name) for p in people(file)] == [(1, "Ada"), (2, "Faster"), (3, "Grace")]


@pytest.mark.parametrize("answers", ["", "1\n", "1\nAda\n", "1\nAda\n\n5\n", "x\n"])
def test_answers_that_end_too_early_change_nothing(file, answers, run):
    result = run(ADD, str(file), input=answers)

    assert result.returncode == 1
    assert result.stderr.endswith("error: the answers ended too early; nothing was changed\n")
    assert not file.exists()


def test_ctrl_c_at_a_question_changes_nothing(file, spawn, run):
    run(ADD, str(file), "--id", "1", "--name", "Ada")
    before = file.read_bytes()
    process = spawn("-m", ADD, str(file))
    assert process.stdout.read(len("Enter person ID number: ")) == "Enter person ID number: "

    stderr = None
    while stderr is None:  # A Ctrl-C just before the read is not seen until the next one.
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            _, stderr = process.communicate(timeout=5)

    assert process.returncode == 130
    assert stderr == "\ninterrupted; nothing was changed\n"
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--id", "0"),
        ("--id", "seven"),
        ("--id", "2147483648"),
        ("--name", ""),
        ("--name", "a\nb"),
        ("--name", b"\xff"),
        ("--email", "a\tb"),
        ("--phone", "boat:1"),
        ("--phone", "555"),
    ],
)
def test_a_bad_flag_is_one_clear_line_and_status_2(file, flag, value, run):
    others = {"--id": "1", "--name": "Ada"} | {flag: value}

    result = run(ADD, str(file), *(word for pair in others.items() for word in pair))

    assert result.returncode == 2
    assert f"error: argument {flag}: " in result.stderr.splitlines()[-1]
    assert not file.exists()


def test_a_taken_id_is_one_line_and_status_1(file, run):
    run(ADD, str(file), "--id", "1", "--name", "Ada")

    result = run(ADD, str(file), "--id", "1", "--name", "Grace")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {file}: id 1 is taken\n"


@pytest.mark.parametrize("module", [ADD, LIST, WIRE])
@pytest.mark.parametrize("data", [b"Dear diary", b"\x10\x01", b"\x0a\xff"])
def test_a_file_that_is_something_else_is_one_line_and_left_as_it_was(file, module, data, run):
    file.write_bytes(data)
    flags = ["--id", "1", "--name", "Ada"] if module == ADD else []

    result = run(module, str(file), *flags)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {file}: not an address book")
    assert result.stderr.count("\n") == 1
    assert file.read_bytes() == data


@pytest.mark.parametrize("module", [LIST, WIRE])
def test_a_file_that_is_not_there_is_one_line(file, module, run):
    result = run(module, str(file))

    assert (result.returncode, result.stderr) == (1, f"error: {file}: No such file or directory\n")


def test_a_folder_that_is_not_there_is_one_line(file, run):
    file = file.parent / "nowhere" / "a.data"

    result = run(ADD, str(file), "--id", "1", "--name", "Ada")

    assert (result.returncode, result.stderr) == (1, f"error: {file}: its folder does not exist\n")


@pytest.mark.slow
def test_forty_processes_at_once_lose_nobody(file):
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", ADD, file, "--id", str(number), "--name", "Guest"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(1, 41)
    ]

    assert [process.wait() for process in processes] == [0] * 40
    assert sorted(person.id for person in people(file)) == list(range(1, 41))


@pytest.mark.slow
def test_a_killed_process_leaves_a_whole_file_with_all_that_was_acknowledged(file):
    acknowledged, killed, life = set(), set(), 0.0
    for number in range(1, 26):
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", ADD, file, "--id", str(number), "--name", "x" * 100_000],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # Every eighth lives, and shows how long a life is now. Others are killed at many moments.
        moment = (number - 1) % 8 / 6
        with process:
            try:
                output, _ = process.communicate(timeout=life * moment if moment else None)
            except subprocess.TimeoutExpired:
                process.kill()
                killed.add(number)
                output, _ = process.communicate()
            if output.startswith("added"):
                acknowledged.add(number)
        if not moment:
            life = time.monotonic() - began

    assert acknowledged <= {person.id for person in people(file)}
    assert {1, 9, 17, 25} <= acknowledged
    assert killed


def write_official(file):
    """Two people, as a program of the official tutorial writes them."""
    book = official.AddressBook()
    first = book.people.add(name="Ada", id=1, email="ada@example.org")
    first.phones.add(number="555", type=1)
    first.last_updated.seconds = 1_000_000_000
    book.people.add(name="\x1b[31mMallory", id=-5).phones.add(number="6", type=9)
    file.write_bytes(book.SerializeToString())


def test_a_file_of_the_official_tutorial_is_listed(file, run):
    write_official(file)

    assert run(LIST, str(file)).stdout == (
        "Person ID: 1\n"
        "  Name: Ada\n"
        "  E-mail address: ada@example.org\n"
        "  Home phone #: 555\n"
        "  Updated: 2001-09-09T01:46:40Z\n"
        "Person ID: -5\n"
        "  Name: \\x1b[31mMallory\n"
        "  Type 9 phone #: 6\n"
    )


def test_the_official_tutorial_reads_our_file(file, run):
    run(ADD, str(file), "--id", "7", "--name", "林徽因", "--phone", "home:1")

    (person,) = official.AddressBook.FromString(file.read_bytes()).people

    assert (person.name, person.id, person.email) == ("林徽因", 7, "")
    assert [(phone.number, phone.type) for phone in person.phones] == [("1", 1)]


def test_json_and_textproto_hold_everything(file, run):
    write_official(file)
    book = AddressBook.FromString(file.read_bytes())

    assert json.loads(run(LIST, str(file), "--format", "json").stdout) == {
        "people": [
            {
                "name": "Ada",
                "id": 1,
                "email": "ada@example.org",
                "phones": [{"number": "555", "type": "HOME"}],
                "lastUpdated": "2001-09-09T01:46:40Z",
            },
            {"name": "\x1b[31mMallory", "id": -5, "phones": [{"number": "6", "type": 9}]},
        ]
    }
    textproto = run(LIST, str(file), "--format", "textproto").stdout
    assert text_format.Parse(textproto, AddressBook()) == book


def test_an_empty_book_lists_as_nothing(file, run):
    file.touch()

    assert [run(LIST, str(file), "--format", name).stdout for name in ("text", "textproto")] == [
        "",
        "",
    ]
    assert run(LIST, str(file), "--format", "json").stdout == "{}\n"


def test_a_time_no_calendar_has_is_listed_but_not_as_json(file, run):
    person = Person(name="Ada", id=1, last_updated=Timestamp(seconds=2**62))
    file.write_bytes(AddressBook(people=[person]).SerializeToString())

    assert "  Updated: 4611686018427387904 s after 1970\n" in run(LIST, str(file)).stdout
    result = run(LIST, str(file), "--format", "json")
    assert result.returncode == 1
    assert re.fullmatch(r"error: .*\n", result.stderr)


def test_a_reader_that_has_seen_enough_is_no_error(file):
    book = AddressBook(people=[Person(name="x" * 1000, id=n) for n in range(1000)])
    file.write_bytes(book.SerializeToString())
    command = f"{sys.executable} -m {LIST} {file} | head -1"

    result = subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert (result.stdout, result.stderr) == ("Person ID: 0\n", "")
