"""How much one owner may store."""

from typing import NamedTuple


class Quota(NamedTuple):
    """How much one owner may store."""

    contacts: int = 100_000
    bytes: int = 64 << 20
    """Of the people in them. Changes and remembered requests, which come on top, have limits of
    their own."""


NORMAL = Quota()
