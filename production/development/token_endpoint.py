"""Builds the responses of token endpoints (RFC 6749, 5)."""

from aiohttp import web

NO_STORE = {"Cache-Control": "no-store"}


def answer(lifetime: int, **token: str) -> web.Response:
    """Returns a token that is valid for lifetime seconds."""
    fields = {**token, "token_type": "Bearer", "expires_in": lifetime}
    return web.json_response(fields, headers=NO_STORE)


def refuse(error: str, status: int = 400) -> web.Response:
    """Returns one of the errors that the RFC names."""
    headers = NO_STORE | ({"WWW-Authenticate": "Basic"} if status == 401 else {})
    return web.json_response({"error": error}, status=status, headers=headers)
