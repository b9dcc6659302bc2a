"""Builds the image from the Dockerfile beside this file, on a base of Debian's packages.

Run it, as root:

    python -m scaling.deploy.image build/contacts.tar

The file it writes is an OCI archive, as `podman load --input` and `docker load --input` take it.
"""

import argparse
import os
from configparser import ConfigParser
from pathlib import Path

from scaling.deploy import base, sandbox
from scaling.deploy.sandbox import Engine

ROOT = Path(__file__).parents[2]
DOCKERFILE = Path(__file__).parent / "Dockerfile"
IGNORED = DOCKERFILE.with_name("Dockerfile.dockerignore")
BASE, NAME = "localhost/base", "localhost/contacts"
AUTHORITIES = "/run/secrets/ca.pem"
"""Where the Dockerfile mounts the secret ca.pem."""
OF_PIP = ("index_url", "extra_index_url", "trusted_host", "proxy")
"""The settings of pip that say where packages are."""


def build(engine: Engine, archive: Path) -> None:
    """Builds the image and writes it to an archive. Raises EngineError, AbsentError, BaseError."""
    engine.podman("import", str(base.cached(engine.folder)), BASE)
    engine.buildah(
        "bud",
        "--isolation=chroot",
        f"--build-arg=BASE={BASE}",
        f"--file={DOCKERFILE}",
        f"--ignorefile={IGNORED}",
        f"--tag={NAME}",
        *_secrets(engine.folder),
        str(ROOT),
    )
    archive.unlink(missing_ok=True)
    engine.buildah("push", "--disable-compression", NAME, f"oci-archive:{archive}:{NAME}")


def _secrets(folder: Path) -> list[str]:
    """Returns the options that give pip inside the build the settings of pip outside.

    These are a package index and its certificates. The build cannot see the machine's.
    """
    config = ConfigParser(interpolation=None)
    config["global"] = {
        name: value for name in OF_PIP if (value := os.environ.get(f"PIP_{name.upper()}"))
    }
    options = []
    if authorities := os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE"):
        config["global"]["cert"] = AUTHORITIES
        options.append(f"--secret=id=ca.pem,src={authorities}")
    with (folder / "pip.conf").open("w") as file:
        config.write(file)
    return [f"--secret=id=pip.conf,src={folder}/pip.conf", *options]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the image.")
    parser.add_argument("archive", type=Path, help="the file to write; is replaced")
    args = parser.parse_args()
    sandbox.run(lambda engine: build(engine, args.archive), has_network=True)
    print(f"wrote {args.archive}")


if __name__ == "__main__":
    main()
