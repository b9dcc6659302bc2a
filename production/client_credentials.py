"""What a client shows: the channel's credentials, and those that go with each call."""

from pathlib import Path
from typing import Any

import grpc


class TokenFile(grpc.AuthMetadataPlugin):
    """Sends the bearer token in a file, read anew for each call: somebody else renews it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, _context: grpc.AuthMetadataContext, callback: Any) -> None:
        """A file that cannot be read fails the call, as UNAVAILABLE."""
        try:
            callback((("authorization", f"Bearer {self._file.read_text().strip()}"),), None)
        except (OSError, ValueError) as error:
            callback((), error)


def channel_credentials(
    ca: Path,
    certificate: Path | None = None,
    key: Path | None = None,
    *plugins: grpc.AuthMetadataPlugin,
) -> grpc.ChannelCredentials:
    """TLS to a server whose certificate ca has signed; with our certificate, if it asks for one.

    Each plugin adds what it knows to every call. Raises OSError when a file cannot be read.
    """
    channel = grpc.ssl_channel_credentials(
        ca.read_bytes(),
        key.read_bytes() if key else None,
        certificate.read_bytes() if certificate else None,
    )
    calls = [grpc.metadata_call_credentials(plugin) for plugin in plugins]
    return grpc.composite_channel_credentials(channel, *calls) if calls else channel
