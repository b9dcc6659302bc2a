"""An issuer's documents: how they are fetched and read, within limits."""

import json
from urllib.parse import urlsplit

import aiohttp

from production.serving.security.issuers import check_url

MAX_BYTES = 65_536
PLAIN = {"Accept-Encoding": "identity"}


class DiscoveryError(ValueError):
    """A discovery document is not the issuer's; the message quotes nothing of it."""


def keys_address(document: object, issuer: str, url: str) -> str:
    """Returns the jwks_uri of a discovery document that url has answered with.

    Raises DiscoveryError if the document is not the issuer's (OpenID Connect Discovery 1.0, 4.3),
    or leads to an address that is less safe than its own.
    """
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise DiscoveryError("the discovery document is of another issuer")
    found = document.get("jwks_uri")
    if not isinstance(found, str):
        raise DiscoveryError("the discovery document has no jwks_uri")
    try:
        if urlsplit(check_url(found)).scheme in ("https", urlsplit(url).scheme):
            return found
    except ValueError:
        pass
    raise DiscoveryError("the discovery document has an unsafe jwks_uri")


async def fetch(url: str) -> bytes:
    """Fetches a document. Raises aiohttp.ClientError, OSError, ValueError."""
    body = b""
    async with (
        aiohttp.ClientSession() as session,
        # No redirects: the table names the address. No compression: a small answer could be a bomb.
        session.get(url, allow_redirects=False, headers=PLAIN, auto_decompress=False) as response,
    ):
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > MAX_BYTES:
                raise ValueError("too large")
    return body


def parse_json(data: bytes) -> object:
    """Parses JSON strictly: duplicate names are an error, because parsers treat them differently.

    Raises ValueError, RecursionError.
    """
    return json.loads(data.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant)


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name appears twice")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
