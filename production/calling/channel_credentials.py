"""A client's credentials: for the channel, and for each call."""

import logging
from pathlib import Path
from typing import Any

import grpc

MAX_TOKEN_BYTES = 8_192
"""A server refuses headers of more than 16 KiB in all, and most proxies of more than 8."""

log = logging.getLogger(__name__)


def read_secret_line(file: Path) -> str:
    """Returns the one line of a file with a token or a secret. Raises OSError, ValueError."""
    with file.open("rb") as opened:
        content = opened.read(MAX_TOKEN_BYTES + 1)
    line = content.strip()
    if not line:
        raise ValueError(f"{file}: the file is empty")
    if len(content) > MAX_TOKEN_BYTES:
        raise ValueError(f"{file}: the file has more than {MAX_TOKEN_BYTES:,} bytes")
    if not (line.isascii() and line.decode("ascii").isprintable()):
        raise ValueError(f"{file}: the file has more than one line, or is not text")
    return line.decode()


class TokenFile(grpc.AuthMetadataPlugin):
    """Sends the bearer token in a file. Another program renews it, so each call reads it again.

    While the file is missing or half written, calls send the last token: whether that is still
    accepted, the server decides.
    """

    def __init__(self, file: Path) -> None:
        """Reads the file. Raises OSError if it cannot be read, ValueError if it holds no token."""
        self._file = file
        self._token = read_secret_line(file)
        self._failing = False

    def __call__(self, _context: grpc.AuthMetadataContext, callback: Any) -> None:
        """Adds the token to a call."""
        try:
            self._token = read_secret_line(self._file)
            self._failing = False
        except (OSError, ValueError) as error:
            if not self._failing:
                log.warning("the last token is used: %s", error)
            self._failing = True
        callback((("authorization", f"Bearer {self._token}"),), None)


def call_credentials(*plugins: grpc.AuthMetadataPlugin) -> grpc.CallCredentials | None:
    """Returns call credentials with which each plugin adds metadata to a call; None without any."""
    each = [grpc.metadata_call_credentials(plugin) for plugin in plugins]
    return grpc.composite_call_credentials(*each) if len(each) > 1 else next(iter(each), None)


def channel_credentials(
    ca: Path,
    certificate: Path | None = None,
    key: Path | None = None,
    *plugins: grpc.AuthMetadataPlugin,
) -> grpc.ChannelCredentials:
    """Returns TLS credentials that trust ca, with our certificate if the server requests one.

    Each plugin adds metadata to every call. Raises OSError if a file cannot be read.
    """
    channel = grpc.ssl_channel_credentials(
        ca.read_bytes(),
        key.read_bytes() if key else None,
        certificate.read_bytes() if certificate else None,
    )
    calls = call_credentials(*plugins)
    return grpc.composite_channel_credentials(channel, calls) if calls else channel
