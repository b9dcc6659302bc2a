"""Reads a README: its sections, their console sessions, diffs and quoted snippets.

The info string of a fenced block is its kind:

    console          a session in the main terminal
    console NAME     a session in a terminal of its own, which may be left running
    diff PATH        a change to the file at PATH, made before the following blocks are played
    python PATH      a snippet quoted from PATH (likewise json, proto, make, toml, yaml)
"""

from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

INTERRUPT = "^C"
QUOTED_LANGUAGES = {"python", "json", "proto", "make", "toml", "yaml"}


@dataclass
class Step:
    """A command or ^C that is typed into a terminal, and the expected output."""

    line: int
    typed: str
    expected: list[str] = field(default_factory=list)


@dataclass
class Block:
    """A fenced block: its line in the README (from 1), language, argument and content lines."""

    line: int
    language: str
    argument: str
    lines: list[str]

    def steps(self) -> list[Step]:
        """Reads the block as a console session.

        Raises ValueError if it begins with output, except in a terminal of its own: there an
        earlier block has started the command.
        """
        steps: list[Step] = []
        continued = False
        for number, line in enumerate(self.lines, self.line + 1):
            if continued:
                steps[-1].typed += "\n" + line
            elif line.startswith("$ ") or line == INTERRUPT:
                steps.append(Step(number, line.removeprefix("$ ")))
            elif steps:
                steps[-1].expected.append(line)
            elif self.argument:
                steps.append(Step(number, "", [line]))
            else:
                raise ValueError(f"line {number}: output without a command: {line!r}")
            continued = steps[-1].typed.endswith("\\") and not steps[-1].expected
        return steps


@dataclass
class Section:
    """A `##` heading with the blocks below it. Each section is independent of the others."""

    title: str
    blocks: list[Block]

    @property
    def is_played(self) -> bool:
        return any(block.language == "console" for block in self.blocks)


def read(path: Path) -> list[Section]:
    """Reads the sections of the README at path; the one above the first `##` has the title ""."""
    sections = [Section("", [])]
    tokens = MarkdownIt().parse(path.read_text(encoding="utf-8"))
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and token.tag == "h2" and following:
            sections.append(Section(following.content.replace("`", ""), []))
        elif token.type == "fence" and token.map:
            language, _, argument = token.info.strip().partition(" ")
            lines = token.content.splitlines()
            sections[-1].blocks.append(Block(token.map[0] + 1, language, argument.strip(), lines))
    return sections


def apply_diff(block: Block, root: Path) -> None:
    """Applies a diff block to the file it names, below root.

    Raises ValueError unless the file contains the old lines exactly once.
    """
    path = root / block.argument
    content = path.read_text(encoding="utf-8")
    old = "".join(line[1:] + "\n" for line in block.lines if line[:1] != "+")
    new = "".join(line[1:] + "\n" for line in block.lines if line[:1] != "-")
    if content.count(old) != 1:
        raise ValueError(
            f"line {block.line}: {block.argument} does not contain these lines once "
            f"(if you have made this change yourself, undo it first):\n{old}"
        )
    path.write_text(content.replace(old, new), encoding="utf-8")


def missing_quotes(block: Block, root: Path) -> list[str]:
    """Returns the parts of a snippet that are not in the file it quotes.

    A line `# ...` or `// ...` stands for omitted lines. Indentation does not matter.
    """
    if not block.argument:
        return [f"line {block.line}: a {block.language} block must name the file it quotes"]
    source = "\n".join(line.strip() for line in (root / block.argument).read_text().splitlines())
    pieces: list[list[str]] = [[]]
    for line in block.lines:
        if line.strip() in {"# ...", "// ..."}:
            pieces.append([])
        else:
            pieces[-1].append(line.strip())
    texts = ["\n".join(piece).strip("\n") for piece in pieces]
    return [
        f"line {block.line}: not in {block.argument}:\n{text}"
        for text in texts
        if text not in source
    ]
