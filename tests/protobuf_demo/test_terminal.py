"""The chapter's command lines on unusual terminals, with text from untrusted sources."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from google.protobuf import text_format

from protobuf_demo.addressbook_pb2 import AddressBook, Person
from tests.conftest import ROOT
from tour.terminal import Terminal

ADD = "protobuf_demo.add_person"
LIST = "protobuf_demo.list_people"
WIRE = "protobuf_demo.wire_format"
FORMATS = ("text", "json", "textproto")
FULL_DISK = "standard output cannot be written: No space left on device"
NOT_UTF8 = os.environ | {"PYTHONIOENCODING": "latin-1"}
LEFT, RIGHT, BACKSPACE = "\x1b[D", "\x1b[C", "\x7f"


def names(file):
    """The names of the people in a file."""
    return [person.name for person in AddressBook.FromString(file.read_bytes()).people]


STEERING = "a\x1b[31m\x7f\x9b\u061c\u200f\u2028\u2029\u202e\u2066z"
"""Escape, delete, a C1 control character, line breaks, changes of the writing direction."""


def test_what_could_steer_the_terminal_is_shown_escaped(file, run):
    file.write_bytes(AddressBook(people=[Person(name=STEERING, id=1)]).SerializeToString())

    text = run(LIST, str(file)).stdout
    as_json = run(LIST, str(file), "--format", "json").stdout
    textproto = run(LIST, str(file), "--format", "textproto").stdout

    assert text == (
        "Person ID: 1\n  Name: a\\x1b[31m\\x7f\\x9b\\u061c\\u200f\\u2028\\u2029\\u202e\\u2066z\n"
    )
    assert not set(STEERING) - set("a[31mz") & set(as_json + textproto)
    assert json.loads(as_json) == {"people": [{"name": STEERING, "id": 1}]}
    assert text_format.Parse(textproto, AddressBook()).people[0].name == STEERING


def test_a_name_is_shown_escaped_when_it_is_added(file, run):
    result = run(ADD, str(file), "--id", "1", "--name", "a\u202ez")

    assert (result.returncode, result.stdout) == (0, f"added a\\u202ez to {file}\n")
    assert names(file) == ["a\u202ez"]


@pytest.mark.parametrize("name", ["می‌خواهم", "👩‍👩‍👧", "林徽因"])
def test_a_name_in_any_script_is_shown_as_it_is(file, run, name):
    run(ADD, str(file), "--id", "1", "--name", name)

    assert f"  Name: {name}\n" in run(LIST, str(file)).stdout
    assert f'"name": "{name}"' in run(LIST, str(file), "--format", "json").stdout
    assert f'name: "{name}"' in run(LIST, str(file), "--format", "textproto").stdout


def test_a_terminal_that_is_not_utf8_shows_names_escaped(file, run):
    added = run(ADD, str(file), "--id", "1", "--name", "林 é 👩", env=NOT_UTF8)
    listed = [run(LIST, str(file), "--format", name, env=NOT_UTF8) for name in FORMATS]
    wire = run(WIRE, str(file), env=NOT_UTF8)

    assert (added.returncode, added.stderr) == (0, f"{file}: not found, making a new file\n")
    assert added.stdout == f"added \\u6797 \\xe9 \\U0001f469 to {file}\n"
    assert names(file) == ["林 é 👩"]
    text, as_json, textproto = (result.stdout for result in listed)
    assert "  Name: \\u6797 \\xe9 \\U0001f469\n" in text
    assert json.loads(as_json)["people"][0]["name"] == "林 é 👩"
    assert text_format.Parse(textproto, AddressBook()).people[0].name == "林 é 👩"
    assert r"'\u6797 \xe9 \U0001f469'" in wire.stdout
    assert (text + as_json + textproto + wire.stdout).isascii()
    assert [result.returncode for result in (*listed, wire)] == [0, 0, 0, 0]


@pytest.mark.parametrize("module", [LIST, WIRE])
def test_output_that_cannot_be_written_is_one_line(file, module, run):
    run(ADD, str(file), "--id", "1", "--name", "Ada")

    result = into_full_disk(module, file)

    assert result == (1, f"error: {FULL_DISK}\n")


def test_a_person_is_added_even_if_that_cannot_be_printed(file):
    file.touch()

    result = into_full_disk(ADD, file, "--id", "1", "--name", "Ada")

    assert result == (1, f"error: the person was added, but {FULL_DISK}\n")
    assert names(file) == ["Ada"]


def test_a_question_that_cannot_be_printed_changes_nothing(file):
    file.touch()

    result = into_full_disk(ADD, file)

    assert result == (1, f"error: {FULL_DISK}; nothing was changed\n")
    assert file.read_bytes() == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_with_stdin_or_stdout_closed_nothing_is_asked(file, closed):
    file.touch()
    command = f"exec {sys.executable} -m {ADD} {file} {closed}"

    result = subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
    )

    assert result.returncode == 1
    assert result.stderr == "\nerror: the answers ended too early; nothing was changed\n"
    assert file.read_bytes() == b""


def test_answers_can_be_edited_with_the_arrow_keys(file):
    terminal = Terminal(ROOT, os.environ | {"TERM": "xterm", "INPUTRC": os.devnull})
    terminal.start(f"{sys.executable} -m {ADD} {file} --id 1")
    try:
        for prompt, keys in (
            ("Enter name: ", f"Adx{LEFT}{RIGHT}{BACKSPACE}a\n"),
            ("(blank for none): ", "\n"),
            ("(or leave blank to finish): ", "\n"),
        ):
            while prompt not in terminal.output:
                assert terminal.read()
            terminal.take(len(terminal.output))
            terminal.write(keys)
        while terminal.is_running:
            terminal.read()
    finally:
        terminal.kill()

    assert terminal.status == 0
    assert names(file) == ["Ada"]


def test_the_columns_of_the_wire_format_hold_long_and_wide_values(file, run):
    values = ["Ada", "林徽因", "e\u0301", "x" * 100, "林" * 100]
    book = AddressBook(people=[Person(name=value, id=1, email=value) for value in values])
    file.write_bytes(book.SerializeToString())

    heading, *lines = run(WIRE, str(file)).stdout.splitlines()

    column = heading.index("bytes")
    for line in lines:
        left, right = split_at(line, column)
        assert left.endswith("  ")
        assert re.fullmatch(r"[0-9a-f]{2}( [0-9a-f]{2})*", right)
    assert len(lines) == 20


def split_at(line, column):
    """Splits a line at a column of the terminal, where Chinese characters take two."""
    for index in range(len(line)):
        before = line[:index]
        wide = sum(unicodedata.east_asian_width(character) == "W" for character in before)
        accents = before.count("\u0301")
        if len(before) + wide - accents == column:
            return before, line[index:]
    raise AssertionError(f"too short: {line}")


def into_full_disk(module, *args):
    """Runs a module with /dev/full as its standard output; returns status and stderr."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", module, *args],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    return result.returncode, result.stderr
