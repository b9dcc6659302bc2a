"""Playing a section: what counts as kept, what as broken, and that nothing is left behind."""

import os
import re
import socket

import pytest

from production.development import programs
from production.development.programs import INSTALL, AbsentError
from tour import player
from tour.player import Failure, explain, free_ports, is_free, pattern, play
from tour.readme import Block, Section, Step

SERVER = """
import signal, socket, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit("bye"))
port = int(sys.argv[2])
socket.create_server(("127.0.0.1", port))
print(f"listening on {port}", flush=True)
while True: time.sleep(0.01)  # A read would miss a signal that comes just before it.
"""


@pytest.fixture
def tree(tmp_path):
    """A small tree to play in."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "server.py").write_text(SERVER)
    (root / "greeting.txt").write_text("hello\n")
    return root


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(player, "PATIENCE", 0.5)


def section(*blocks):
    """A section of (info string, content) pairs."""
    parsed = []
    for info, content in blocks:
        language, _, argument = info.partition(" ")
        parsed.append(Block(1, language, argument, content.splitlines()))
    return Section("A section", parsed)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_commands_run_in_order_and_keep_their_promises(tree):
    play(section(("console", "$ echo one\none\n$ echo two; echo three >&2\ntwo\nthree")), tree)


@pytest.mark.parametrize("promise", ["two", "one\ntwo", "", "one ...", "on", "One", "...\ntwo"])
def test_any_other_output_breaks_the_promise(tree, promise):
    with pytest.raises(Failure):
        play(section(("console", f"$ echo one\n{promise}")), tree)


@pytest.mark.parametrize("promise", ["one", "one  ", "o...", "...", "...\none", "one\n...", "...e"])
def test_three_dots_stand_for_what_varies(tree, promise):
    play(section(("console", f"$ echo one\n{promise}")), tree)


def test_a_failed_command_must_be_admitted(tree):
    play(section(("console", "$ sh -c 'exit 3'\n$ echo $?\n3\n$ echo on\non")), tree)
    play(section(("console", "$ echo error: no; exit 3\nerror: no\n$ echo on\non")), tree)

    with pytest.raises(Failure, match="ended with status 3"):
        play(section(("console", "$ sh -c 'exit 3'\n$ echo on")), tree)


def test_a_failed_last_command_must_be_admitted_too(tree):
    with pytest.raises(Failure, match="ended with status 3"):
        play(section(("console", "$ sh -c 'exit 3'")), tree)


def test_what_follows_a_prompt_is_typed(tree):
    ask = '$ python -c \'print(input("Name: "), input("Sure? "))\'\n'

    play(section(("console", f"{ask}Name: Ada\nSure? yes\nAda yes")), tree)
    play(section(("console", f"{ask}Name:\nSure?\n ")), tree)


def test_a_named_terminal_is_ready_when_its_output_has_appeared_and_ends_on_interrupt(tree):
    play(
        section(
            ("console server", "$ python server.py --port 50051\nlistening on 50051"),
            ("console", "$ echo meanwhile\nmeanwhile"),
            ("console server", "^C\nbye"),
        ),
        tree,
    )


def test_a_port_is_replaced_by_a_free_one_everywhere_in_the_section(tree):
    shown = []

    play(
        section(
            ("console one", "$ python server.py --port 50051\nlistening on 50051"),
            (
                "console",
                "$ echo localhost:50051 [::1]:50051 150051\nlocalhost:50051 [::1]:50051 150051",
            ),
        ),
        tree,
        lambda _, text: shown.append(text),
    )

    text = "".join(shown)
    (port,) = set(re.findall(r"localhost:(\d+)", text))
    assert port != "50051"
    assert f"listening on {port}\n" in text
    assert "150051" in text


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_says_what_it_should_is_a_failure(tree):
    with pytest.raises(Failure, match="listening at last"):
        play(section(("console s", "$ python server.py --port 50051\nlistening at last")), tree)


def test_a_server_that_dies_is_a_failure_at_once(tree):
    with pytest.raises(Failure, match="No such file"):
        play(section(("console s", "$ cat no-such-file\nlistening")), tree)


@pytest.mark.usefixtures("impatient")
def test_a_command_that_waits_for_ever_is_a_failure(tree):
    with pytest.raises(Failure, match="still running after"):
        play(section(("console", "$ cat\nnever")), tree)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_ignores_interrupt_is_a_failure_and_is_killed(tree):
    command = "$ trap '' INT; echo pid $$; cat"
    shown = []

    with pytest.raises(Failure, match=r"still running .* after \^C"):
        play(
            section(("console s", f"{command}\npid ...")), tree, lambda _, text: shown.append(text)
        )

    assert not alive(int(re.search(r"^pid (\d+)", "".join(shown), re.M)[1]))


def test_a_traceback_in_a_terminal_the_readme_shows_no_more_of_is_a_failure(tree):
    code = (
        "import signal, time; signal.signal(2, lambda *_: 1 / 0); print('up')\n"
        "while True: time.sleep(0.01)"
    )
    (tree / "fails.py").write_text(code)
    with pytest.raises(Failure, match="printed a traceback"):
        play(section(("console s", "$ python -u fails.py\nup")), tree)


def test_no_process_survives_whatever_ends_the_play(tree):
    pids = []

    def stop_the_play(_, text):
        pids.extend(int(pid) for pid in re.findall(r"^pid (\d+)$", text, re.M))
        if pids:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(section(("console s", "$ echo pid $$; cat\npid ...")), tree, stop_the_play)

    assert [alive(pid) for pid in pids] == [False]


def test_a_diff_is_shown_and_changes_the_copy_that_is_played_not_the_tree(tree):
    shown = []

    play(
        section(
            ("diff greeting.txt", "-hello\n+good morning"),
            ("console", "$ cat greeting.txt\ngood morning\n$ touch build/made"),
        ),
        tree,
        lambda _, text: shown.append(text),
    )

    assert shown[0] == "a change to greeting.txt:\n-hello\n+good morning\n"
    assert (tree / "greeting.txt").read_text() == "hello\n"
    assert not (tree / "build").exists()


def test_a_program_that_is_not_there_is_absent_not_broken(tree, monkeypatch):
    monkeypatch.setitem(INSTALL, "frobnicator", "apt install frobnicator")

    with pytest.raises(AbsentError, match="frobnicator \\(apt install frobnicator\\)"):
        play(section(("console", "$ true && frobnicator lint\nfine")), tree)
    for started in (
        "python -m chapter.frobnicator --port 0",
        "python -m proxy frobnicator --port 0",
    ):
        with pytest.raises(AbsentError):
            play(section(("console", f"$ {started}")), tree)
    play(section(("console", "$ echo frobnicator\nfrobnicator")), tree)


def test_a_condition_that_a_module_needs_is_absent_like_a_program(tree, monkeypatch):
    def refuse():
        raise AbsentError("moonlight (wait for the night)")

    monkeypatch.setitem(programs.CONDITIONS, "moonlight", refuse)
    monkeypatch.setitem(programs.NEEDS, "chapter.night", ("moonlight",))
    (tree / "chapter").mkdir()
    (tree / "chapter" / "nights.py").write_text("print('hello')")

    with pytest.raises(AbsentError, match="moonlight \\(wait for the night\\)"):
        play(section(("console", "$ A=b python -m chapter.night.walk\nhello")), tree)
    play(section(("console", "$ python -m chapter.nights\nhello")), tree)


def test_the_session_has_an_environment_of_its_own_that_sees_our_packages(tree):
    (tree / "where.py").write_text("import pytest, sys; print(pytest.__file__, sys.prefix)")

    play(
        section(
            ("console", f"$ python where.py\n{pytest.__file__} ...root/.venv"),
            ("console", "$ test $VIRTUAL_ENV -ef .venv; which python\n...root/.venv/bin/python"),
        ),
        tree,
    )


def test_the_explanation_is_a_diff_without_what_varies():
    step = Step(7, "list", [])

    assert explain(step, ["took ... s", "done"], "took 3 s\nfailed\n").splitlines() == [
        "line 7: $ list",
        "--- README",
        "+++ seen",
        "@@ -1,2 +1,2 @@",
        " took ... s",
        "-done",
        "+failed",
    ]


def test_a_pattern_has_no_meaning_but_three_dots():
    assert pattern(["a.b (c) [d] *"]).fullmatch("a.b (c) [d] *\n")
    assert not pattern(["a.b"]).fullmatch("axb\n")


def test_free_ports_are_different_and_below_the_range_clients_get():
    ports = [int(port) for port in free_ports(20)]

    assert len(set(ports)) == 20
    assert all(10_000 <= port < 32_768 for port in ports)


def test_a_port_that_is_taken_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not is_free(taken.getsockname()[1])
