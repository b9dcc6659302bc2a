"""Checks the READMEs: sessions, quotations, links."""

import re
from pathlib import Path

import pytest

from production.development.programs import AbsentError
from tests.conftest import absent
from tour import tree
from tour.player import Failure, play
from tour.readme import QUOTED_LANGUAGES, missing_quotes, read

ROOT = Path(__file__).parent.parent
READMES = [ROOT / path for path in tree.files(ROOT) if path.suffix == ".md"]
SECTIONS = [(readme, section) for readme in READMES for section in read(readme)]


def name(readme):
    return str(readme.relative_to(ROOT))


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(section, id=f"{name(readme)}: {section.title}")
        for readme, section in SECTIONS
        if section.is_played
    ],
)
def test_a_session_prints_what_the_readme_shows(section):
    failure = None
    try:
        play(section, ROOT)
    except AbsentError as error:
        absent(error)
    except Failure as error:
        failure = str(error)
    if failure:
        pytest.fail(failure, pytrace=False)


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_a_snippet_stands_in_the_file_it_is_quoted_from(readme):
    blocks = [block for section in read(readme) for block in section.blocks]

    assert [
        problem
        for block in blocks
        if block.language in QUOTED_LANGUAGES
        for problem in missing_quotes(block, ROOT)
    ] == []


LENGTHY = {"ERRORS.md", "GLOSSARY.md", "production/lessons/README.md"}
"""Pages that are looked things up in, and one that still has to be split."""


@pytest.mark.parametrize(
    "readme", [page for page in READMES if name(page) not in LENGTHY], ids=name
)
def test_a_page_is_short_enough_to_be_read(readme):
    assert len(readme.read_text().split()) <= 3_500


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_a_change_or_quotation_follows_a_link_to_its_file(readme):
    """No viewer shows the path that is written behind the fence."""
    lines = readme.read_text().splitlines()
    unnamed = []
    for block in (block for section in read(readme) for block in section.blocks):
        if block.language in {"diff", *QUOTED_LANGUAGES}:
            before = "\n".join(lines[: block.line - 1]).rstrip()
            paragraph = before.rpartition("\n\n")[2]
            links = [readme.parent / link for link in re.findall(r"\]\(([^)\s#]+)", paragraph)]
            if not any(link.resolve() == ROOT / block.argument for link in links):
                unnamed.append(f"line {block.line}: {block.argument}")

    assert unnamed == []


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_a_command_to_be_pasted_has_no_comment(readme):
    """zsh, macOS's shell, takes `#` for a word."""
    blocks = [block for section in read(readme) for block in section.blocks]

    assert [
        line
        for block in blocks
        if block.language in {"sh", "console"}
        for line in block.lines
        if (block.language == "sh" or line.startswith("$ ")) and re.search(r"\s#\s", f" {line}")
    ] == []


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_a_link_leads_somewhere(readme):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", readme.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        page = (readme.parent / path).resolve() if path else readme
        if not page.exists() or (anchor and anchor not in anchors(page)):
            broken.append(target)

    assert broken == []


HISTORIC = set()
"""Pages, as (page, version), whose findings are of another grpcio than the one we pin."""


@pytest.mark.parametrize("readme", READMES, ids=name)
def test_a_page_names_the_grpcio_that_is_pinned(readme):
    """After an upgrade each of these findings is seen again, or listed as historic."""
    (pinned,) = re.findall(r"^grpcio==(\S+)", (ROOT / "requirements.in").read_text(), re.M)
    named = set(re.findall(r"grpcio(?: |>=)(\d+\.\d+(?:\.\d+)?)", readme.read_text()))

    assert [
        version
        for version in sorted(named)
        if not f"{pinned}.".startswith(f"{version}.") and (name(readme), version) not in HISTORIC
    ] == []


def index_of_errors():
    """Message and page of each row."""
    for messages, pages in re.findall(
        r"^\| (`.*?`) \| .* \| (.*) \|$", (ROOT / "ERRORS.md").read_text(), re.M
    ):
        for message in re.findall(r"`([^`]+)`", messages):
            for page in re.findall(r"\]\(([^)#]+)", pages):
                yield message, page


@pytest.mark.parametrize(("message", "page"), list(index_of_errors()))
def test_an_error_in_the_index_is_explained_where_it_says(message, page):
    assert message in (ROOT / page).read_text()


def anchors(page):
    """The anchors that code hosts give to a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
