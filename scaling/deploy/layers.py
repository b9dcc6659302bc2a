"""Looks into the layers of an image, as somebody does who has got hold of it.

Run it:

    python -m scaling.deploy.layers build/contacts.tar

It reads an OCI archive, as `buildah push IMAGE oci-archive:FILE` and `docker save` write it.
"""

import argparse
import json
import re
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}")
SECRET = re.compile(
    PRIVATE_KEY.pattern + rb"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # A JSON web token.
    rb"|\b[a-z][a-z+]*://[\w.-]+:[^\s/@{}$<>'\"%]{3,}@[a-z\d]"  # A URL with a password.
)
SECRET_NAME = re.compile(
    r"(^|/)(\.git|\.ssh|\.env|\.netrc|\.pgpass|\.pypirc|pip\.conf|[^/]+\.(key|token|db))$"
)
EXAMPLES = re.compile(r"^/usr/|/site-packages/")
"""Where packages are: their documentation has passwords and tokens as examples."""
SEARCHED_BYTES = 1 << 20
"""The most that is searched of a file: what is longer is a library."""
SET_ID = stat.S_ISUID | stat.S_ISGID


class Report(NamedTuple):
    """What an image is, and what is found in its layers."""

    config: dict[str, Any]
    bytes: int
    """Of all files, unpacked."""
    paths: list[str]
    """Of all files and folders."""
    secrets: list[str]
    """As PATH: WHAT."""
    writable: list[str]
    """Files and folders that every user may write."""
    set_id: list[str]
    """Programs that run with the rights of their owner or group."""


class ImageError(Exception):
    """An archive is not an image that can be read."""


def examine(archive: Path) -> Report:
    """Returns what is in all layers, also what a later one hides. Raises ImageError, OSError."""
    try:
        with tarfile.open(archive) as image:
            index = json.load(_open(image, "index.json"))
            manifest = json.load(_open(image, _blob(index["manifests"][0])))
            config = json.load(_open(image, _blob(manifest["config"])))
            layers = [_blob(layer) for layer in manifest["layers"]]
            size, secrets, modes = 0, _in_config(config), dict[str, int]()
            for layer in layers:
                with tarfile.open(fileobj=_open(image, layer)) as files:
                    for file in files:
                        path = f"/{file.name.removeprefix('./').rstrip('/')}"
                        size += file.size
                        secrets += [f"{path}: {what}" for what in _secrets(files, file, path)]
                        # A later layer's counts.
                        modes[path] = _bits(file)
    except (KeyError, IndexError, ValueError, tarfile.TarError) as error:
        raise ImageError(f"{archive} is not an OCI archive: {error}") from None
    writable = sorted(path for path, mode in modes.items() if mode & stat.S_IWOTH)
    set_id = sorted(path for path, mode in modes.items() if mode & SET_ID)
    return Report(config, size, sorted(modes), secrets, writable, set_id)


def _blob(descriptor: dict[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def _open(archive: tarfile.TarFile, name: str) -> Any:
    return archive.extractfile(name)


def _in_config(config: dict[str, Any]) -> list[str]:
    """Returns the secrets in the environment and in the history of commands."""
    history = [entry.get("created_by", "") for entry in config.get("history", ())]
    texts = [*config["config"].get("Env", ()), *history]
    return [f"config: {text}" for text in texts if SECRET.search(text.encode())]


def _bits(file: tarfile.TarInfo) -> int:
    """Returns the mode of a file; of a folder, whether everybody may write."""
    if file.isfile():
        return file.mode
    return file.mode & stat.S_IWOTH if file.isdir() else 0


def _secrets(files: tarfile.TarFile, file: tarfile.TarInfo, path: str) -> Iterator[str]:
    if SECRET_NAME.search(path):
        yield "by its name"
    if file.isfile() and file.size <= SEARCHED_BYTES:
        pattern = PRIVATE_KEY if EXAMPLES.search(path) else SECRET
        content = files.extractfile(file)
        if content and (found := pattern.search(content.read())):
            yield found[0][:30].decode(errors="replace")


def main() -> None:
    parser = argparse.ArgumentParser(description="Look into the layers of an image.")
    parser.add_argument("archive", type=Path)
    try:
        report = examine(parser.parse_args().archive)
    except (ImageError, OSError) as error:
        sys.exit(f"error: {error}")
    run = report.config["config"]
    print(f"runs as      {run.get('User') or 'root'}")
    print(f"starts       {' '.join(run.get('Entrypoint') or run.get('Cmd') or ())}")
    print(f"ports        {' '.join(run.get('ExposedPorts', ())) or 'none'}")
    layers = len(report.config["rootfs"]["diff_ids"])
    print(f"size         {report.bytes / 1e6:.0f} MB in {layers} layers")
    for title, found in (
        ("writable", report.writable),
        ("set-id", report.set_id),
        ("secrets", report.secrets),
    ):
        print(f"{title:12} {' '.join(found) or 'none'}")
    if report.secrets:
        sys.exit("error: the image holds secrets")


if __name__ == "__main__":
    main()
