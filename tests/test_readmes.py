"""The READMEs keep their word: sessions, quotations, links."""

import re
from pathlib import Path

import pytest

from tour.player import Absent, Failure, play
from tour.readme import QUOTED_LANGUAGES, missing_quotes, read

ROOT = Path(__file__).parent.parent
READMES = sorted(p for p in ROOT.glob("**/*.md") if not {".venv", "build"} & set(p.parts))
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
    except Absent as absent:
        pytest.skip(f"absent: {absent}")
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


def index_of_errors():
    """Message and page of each row of the front page's index."""
    text = (ROOT / "README.md").read_text()
    index = text.partition("## From error message to explanation")[2].partition("\n## ")[0]
    for message, pages in re.findall(r"^\| `([^`]+)` \| (.*) \|$", index, re.M):
        for page in re.findall(r"\]\(([^)#]+)", pages):
            yield message, page


@pytest.mark.parametrize(("message", "page"), list(index_of_errors()))
def test_an_error_in_the_index_is_explained_where_it_says(message, page):
    assert message in (ROOT / page).read_text()


def anchors(page):
    """The anchors that code hosts give to a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
