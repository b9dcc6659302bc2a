"""A server's certificate is replaced while it serves; a faulty one never comes into use.

Run it:

    python -m production.lessons.rotation
"""

import argparse
import socket
import ssl
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from production.development.certificates import SERVER, Authority
from production.serving.security import tls


def shown(port: int, authority: Path) -> str:
    """The end of the serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        certificate = secured.getpeercert() or {}
    return f"...{str(certificate['serialNumber'])[-4:]}"


def show(folder: Path) -> None:
    """Replaces files in the folder, and prints what clients are shown after each step."""
    authority = Authority.make("lesson")
    authority.save(folder, "ca")
    certificate, key = folder / "server.pem", folder / "server.key"
    for file, content in zip((certificate, key), authority.issue(SERVER), strict=True):
        file.touch(mode=0o600)
        file.write_bytes(content)
    server = grpc.server(ThreadPoolExecutor(1))
    credentials = tls.server_credentials(certificate, key, None)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()

    def tell(step: str) -> None:
        print(f"{step:33}{shown(port, folder / 'ca.pem')}")

    tell("at the start")
    new_certificate, new_key = authority.issue(SERVER)
    certificate.write_bytes(new_certificate)
    tell("new certificate, old key")
    key.write_bytes(new_key)
    tell("new certificate, new key")
    certificate.write_text("garbage")
    tell("garbage")
    server.stop(None).wait()


def main() -> None:
    argparse.ArgumentParser(description="Show how a certificate is replaced.").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(Path(folder))


if __name__ == "__main__":
    main()
