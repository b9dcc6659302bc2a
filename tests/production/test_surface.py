"""Names that others rely on change on purpose only."""

from tests.conftest import python
from tests.production import surface


def test_what_others_rely_on_is_what_it_was():
    """After a change on purpose, run `python -m tests.production.surface` and read its diff."""
    # Not in this process, in which other tests' services have metrics, too.
    seen = python("-c", "from tests.production import surface; print(surface.surface(), end='')")
    assert seen.stdout.splitlines() == surface.FILE.read_text().splitlines()
