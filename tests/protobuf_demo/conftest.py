import pytest


@pytest.fixture
def file(tmp_path):
    """The path of an address book that does not exist yet."""
    return tmp_path / "addressbook.data"
