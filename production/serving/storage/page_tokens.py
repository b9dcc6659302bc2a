"""Page tokens (AIP-158), which say where a page has ended. They are encrypted, because they end up
in the access logs of proxies, and what a page ends with is in them."""

import base64
import json
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

MAX_TOKEN = 32 * 1024
"""Longer than the token of the longest position, in characters."""


class PageTokens:
    """Writes and reads page tokens."""

    def __init__(self, key: bytes) -> None:
        """key has 64 bytes, and is the same in all processes that answer for a database."""
        self._cipher = AESSIV(key)

    def write(self, position: Sequence[str], *bound_to: str) -> str:
        """Returns a token of a position, which can be read only with the same bound_to."""
        token = self._cipher.encrypt(json.dumps(position).encode(), _encoded(bound_to))
        return base64.urlsafe_b64encode(token).decode()

    def read(self, token: str, *bound_to: str) -> list[str]:
        """Returns the position of a token. Raises ValueError for any other token."""
        if len(token) > MAX_TOKEN:
            raise ValueError
        sealed = base64.urlsafe_b64decode(token)
        try:
            position: list[str] = json.loads(self._cipher.decrypt(sealed, _encoded(bound_to)))
        except InvalidTag:
            raise ValueError from None
        return position


def _encoded(bound_to: Sequence[str]) -> list[bytes]:
    return [part.encode() for part in bound_to]
