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

SECRET = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}"
    rb"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # A JSON web token.
    rb"|\b[a-z][a-z+]*://[\w.-]+:[^\s/@{}$<>'\"%]{3,}@[a-z\d]"  # A URL with a password.
)
SECRET_NAME = re.compile(
    r"(^|/)(\.git|\.ssh|\.env|\.netrc|\.pgpass|\.pypirc|pip\.conf|[^/]+\.(key|token|db))$"
)
SEARCHED_BYTES = 1 << 20
"""The most that is searched of a file: what is longer is a library."""
OTHERS_WRITE, SET_ID = stat.S_IWOTH, stat.S_ISUID | stat.S_ISGID


class Report(NamedTuple):
    """What an image is, and what is found in its layers, as PATH or PATH: WHAT."""

    config: dict[str, Any]
    bytes: int
    """Of all files, unpacked."""
    secrets: list[str]
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
            report = Report(config, 0, _in_config(config), [], [])
            for layer in layers:
                with tarfile.open(fileobj=_open(image, layer)) as files:
                    for file in files:
                        report = report._replace(bytes=report.bytes + file.size)
                        _look(files, file, report)
    except (KeyError, IndexError, ValueError, tarfile.TarError) as error:
        raise ImageError(f"{archive} is not an OCI archive: {error}") from None
    return report


def _blob(descriptor: dict[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def _open(archive: tarfile.TarFile, name: str) -> Any:
    return archive.extractfile(name)


def _in_config(config: dict[str, Any]) -> list[str]:
    """Returns the secrets in the environment and in the history of commands."""
    history = [entry.get("created_by", "") for entry in config.get("history", ())]
    texts = [*config["config"].get("Env", ()), *history]
    return [f"config: {text}" for text in texts if SECRET.search(text.encode())]


def _look(files: tarfile.TarFile, file: tarfile.TarInfo, report: Report) -> None:
    path = f"/{file.name.removeprefix('./').rstrip('/')}"
    if file.issym() or file.islnk():
        return
    if file.mode & OTHERS_WRITE and not file.ischr():
        report.writable.append(path)
    if file.isfile() and file.mode & SET_ID:
        report.set_id.append(path)
    report.secrets.extend(f"{path}: {what}" for what in _secrets(files, file, path))


def _secrets(files: tarfile.TarFile, file: tarfile.TarInfo, path: str) -> Iterator[str]:
    if SECRET_NAME.search(path):
        yield "by its name"
    if file.isfile() and file.size <= SEARCHED_BYTES:
        content = files.extractfile(file)
        if content and (found := SECRET.search(content.read())):
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
    print(f"size         {report.bytes / 1e6:.0f} MB in {len(report.config['rootfs']['diff_ids'])} layers")
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
