"""The server as a pod would start it: its command, its settings, its files."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from production.calling import addresses
from production.calling.addresses import Address
from production.contacts import settings as contacts_settings
from production.contacts.settings import Settings
from production.serving.settings import load as load_settings
from scaling.deploy.kubernetes.manifests import Manifests, Object, source

PATHS = ("CONTACTS_CERTIFICATE", "CONTACTS_KEY", "CONTACTS_CLIENT_CA", "CONTACTS_API_KEYS")
"""The settings that are paths."""
COMMAND = ["python", "-m", contacts_settings.PROGRAM]
STAND_IN = "postgresql://contacts_server:secret@contacts-db-rw.contacts:5432/contacts"
"""For what a Secret holds: a URL of a database, which other settings accept, too."""


def variables(workload: Object) -> dict[str, str]:
    """Returns the environment that a workload's container gets."""
    return {
        each["name"]: STAND_IN if "valueFrom" in each else each.get("value", "")
        for each in workload.container.get("env", [])
    }


def files(workload: Object) -> dict[str, str]:
    """Returns the paths that its environment names, by the variable."""
    return {
        name: value
        for name, value in variables(workload).items()
        if name.endswith("_FILE") or name in PATHS
    }


def host(workload: Object, setting: str) -> Address | None:
    """Returns an address that the server listens on, or None if it is not set."""
    value = variables(workload).get(f"CONTACTS_{setting.upper()}")
    try:
        return addresses.parse(value) if value else None
    except ValueError:
        return None


def port(workload: Object, setting: str) -> int | None:
    """Returns a port that the server listens on, or None."""
    found = host(workload, setting)
    return found.port if found else None


def ports(workload: Object) -> list[int]:
    """Returns all ports that the server listens on."""
    names = ("address", "health_address", "metrics_address", "channelz_address")
    return [found for name in names if (found := port(workload, name))]


def mistakes(workload: Object, manifests: Manifests) -> Iterator[str]:
    """Yields why the program would not start: its command or its settings are wrong."""
    command = [*workload.container.get("command", []), *workload.container.get("args", [])]
    wanted = [*COMMAND, "migrate"] if workload.kind == "Job" else COMMAND
    if command != wanted:
        yield f"its command is {' '.join(command)!r}, not {' '.join(wanted)!r}"
    try:
        _load(workload, manifests)
    except ValueError as error:
        yield from str(error).splitlines()


def load(workload: Object, manifests: Manifests) -> Settings | None:
    """Returns the settings of a server, or None if it would not start."""
    try:
        return _load(workload, manifests)
    except ValueError:
        return None


def _load(workload: Object, manifests: Manifests) -> Settings:
    """Loads the settings as the program does. Raises ValueError."""
    with tempfile.TemporaryDirectory() as folder:
        values = variables(workload)
        for number, (name, path) in enumerate(files(workload).items()):
            if name.endswith("_FILE"):
                file = Path(folder) / str(number)
                file.write_text(_content(workload, manifests, path))
                values[name] = str(file)
        with _environment(values):
            if workload.kind == "Job":
                return contacts_settings.for_commands()
            return load_settings(Settings)


def _content(workload: Object, manifests: Manifests, path: str) -> str:
    """Returns what a file of a ConfigMap holds; of a Secret, a stand-in."""
    found = source(workload.pod, path)
    config_map = found and manifests.find("ConfigMap", found.name)
    data = config_map.data.get("data", {}) if config_map else {}
    return str(data.get(found.key, STAND_IN)) if found else STAND_IN


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Replaces the environment of this process, and puts it back."""
    kept = dict(os.environ)
    os.environ.clear()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
