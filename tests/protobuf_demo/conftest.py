import pytest


@pytest.fixture
def file(tmp_path):
    """Where an address book will be."""
    return tmp_path / "addressbook.data"
