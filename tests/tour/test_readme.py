"""Reading a README: sections, sessions, diffs, quotations."""

import pytest

from tour.readme import Block, Section, Step, apply_diff, missing_quotes, read


def console(text, argument=""):
    return Block(1, "console", argument, text.splitlines())


def test_a_readme_is_its_second_level_sections_and_their_fenced_blocks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(
        "# Title\n\n## One\n\n```console server\n$ a\n```\n\n"
        "### In one\n\n```sh\nb\n```\n\n## `Two`\n"
    )

    assert read(readme) == [
        Section("", []),
        Section("One", [Block(5, "console", "server", ["$ a"]), Block(11, "sh", "", ["b"])]),
        Section("Two", []),
    ]
    assert [section.is_played for section in read(readme)] == [False, True, False]


def test_a_session_is_commands_interrupts_and_their_output():
    block = console("$ one\n1\n\n$ two \\\n  --more\n^C\nbye")

    assert block.steps() == [
        Step(2, "one", ["1", ""]),
        Step(5, "two \\\n  --more", []),
        Step(7, "^C", ["bye"]),
    ]


def test_output_without_a_command_is_only_for_a_terminal_left_running():
    assert console("more", "server").steps() == [Step(2, "", ["more"])]
    with pytest.raises(ValueError, match="line 2: output without a command: 'more'"):
        console("more").steps()


def test_a_diff_replaces_lines_that_stand_there_once(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\nthree\n")
    block = Block(1, "diff", "a.txt", [" one", "-two", "+2", "+2a"])

    apply_diff(block, tmp_path)

    assert path.read_text() == "one\n2\n2a\nthree\n"
    with pytest.raises(ValueError, match="does not contain these lines once"):
        apply_diff(block, tmp_path)


def test_a_snippet_is_quoted_from_its_file_with_gaps_and_other_indentation(tmp_path):
    (tmp_path / "a.py").write_text("class A:\n    def b(self):\n        return 1\n\n    c = 2\n")

    def missing(*lines):
        return missing_quotes(Block(7, "python", "a.py", list(lines)), tmp_path)

    assert missing("def b(self):", "    return 1", "# ...", "c = 2") == []
    assert missing("def b(self):", "    return 2") == [
        "line 7: not in a.py:\ndef b(self):\nreturn 2"
    ]
    assert missing_quotes(Block(7, "python", "", []), tmp_path) == [
        "line 7: a python block must name the file it quotes"
    ]
