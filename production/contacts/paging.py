"""Prefixes of a list that is ordered by name."""

from production.serving.validation import MAX_TEXT


def after(prefix: str) -> str:
    """Returns the least text that is greater than all names with the prefix, by code point."""
    stripped = prefix.rstrip("\U0010ffff")
    if not stripped:
        return "\U0010ffff" * (MAX_TEXT + 1)
    following = ord(stripped[-1]) + 1
    return stripped[:-1] + chr(0xE000 if following == 0xD800 else following)
