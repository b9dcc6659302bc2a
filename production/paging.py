"""Pages and prefixes of a list that is ordered by name. Knows no gRPC and no SQL."""

import base64
import json

from production.rules import MAX_TEXT, InvalidError, Violation

MAX_TOKEN = 32 * 1024
"""Longer than the token of the longest prefix and name, in characters."""


def after(prefix: str) -> str:
    """A text greater than all names with the prefix, and than no other, by code point."""
    stripped = prefix.rstrip("\U0010ffff")
    if not stripped:
        return "\U0010ffff" * (MAX_TEXT + 1)
    following = ord(stripped[-1]) + 1
    return stripped[:-1] + chr(0xE000 if following == 0xD800 else following)


def write_token(prefix: str, name_key: str, contact_id: str) -> str:
    """A token (AIP-158) that says where a page of that list has ended."""
    return base64.urlsafe_b64encode(json.dumps([prefix, name_key, contact_id]).encode()).decode()


def read_token(token: str, prefix: str) -> tuple[str, str]:
    """Where the page before ended. Raises InvalidError for what is no token of such a list."""
    if not token:
        return "", ""
    try:
        if len(token) > MAX_TOKEN:
            raise ValueError
        token_prefix, name_key, contact_id = json.loads(base64.urlsafe_b64decode(token))
        valid = token_prefix == prefix and isinstance(name_key, str) and isinstance(contact_id, str)
        f"{name_key}{contact_id}".encode()
    except (ValueError, TypeError, RecursionError):
        valid = False
    if not valid or "\0" in name_key + contact_id:
        raise InvalidError(Violation("page_token", "is not from a list with this name_prefix"))
    return name_key, contact_id
