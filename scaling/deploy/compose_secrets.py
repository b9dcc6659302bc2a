"""Makes the secrets of compose.yaml: certificates, the database's password, the key of pseudonyms.

Run it:

    python -m scaling.deploy.compose_secrets build/deploy

What exists is kept, but for the certificates: the database has its password since its first start.
"""

import argparse
import secrets
import sys
from pathlib import Path

from production.development.certificates import SERVER, Authority

HOSTS = {"contacts": ("contacts",), "edge": ("localhost", "127.0.0.1", "::1", "envoy")}
"""The names in the certificates of the servers, and of Envoy."""
FOLDER_MODE, FILE_MODE = 0o700, 0o444
"""Compose mounts a file as it is, and the containers' users are others: so everybody may read the
files, but nobody else may enter the folder."""


def make(folder: Path) -> None:
    """Writes the secrets to a folder. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    authority = Authority.make("Contacts")
    authority.save(folder, "ca")
    (folder / "ca.key").unlink()  # It has signed all that it should.
    for name, hosts in HOSTS.items():
        certificate, key = authority.issue(SERVER._replace(hosts=hosts))
        _write(folder / f"{name}.pem", certificate)
        _write(folder / f"{name}.key", key)
    (folder / "ca.pem").chmod(FILE_MODE)
    password = folder / "database-password"
    if not password.exists():
        _write(password, secrets.token_urlsafe(24).encode())
    url = f"postgresql+psycopg://postgres:{password.read_text()}@database/contacts"
    _write(folder / "database-url", url.encode())
    if not (folder / "log-secret").exists():
        _write(folder / "log-secret", secrets.token_hex(32).encode())


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(FILE_MODE)
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(FILE_MODE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the secrets of compose.yaml.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        make(folder)
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    print(f"made {len(list(folder.iterdir()))} files in {folder}")


if __name__ == "__main__":
    main()
