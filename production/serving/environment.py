"""The environment of a service: its settings, the files that hold some of them, and what else has
their prefix."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
SERVICE_LINK = re.compile(
    r"\w+_SERVICE_HOST=[\da-f]*[.:][\da-f.:]+"
    r"|\w+_SERVICE_PORT(_\w+)?=\d+"
    r"|\w+_PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://\S+"
    r"|\w+_PORT_\d+_(TCP|UDP|SCTP)_(PROTO=(tcp|udp|sctp)|PORT=\d+|ADDR=[\da-f.:]+)",
    re.ASCII,
)
"""What Kubernetes tells each container of a Service, whose name may begin with our prefix."""


class Environment(EnvSettingsSource):
    """Reads settings from variables, and from the files that NAME_FILE names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Returns the value of a setting, as pydantic-settings asks for it."""
        value, key, is_complex = super().get_field_value(field, field_name)
        file = self.env_vars.get(f"{self.env_prefix}{field_name}_file".lower())
        return read(f"{self.env_prefix}{field_name}_FILE", file) if file else value, key, is_complex


def read(name: str, file: str) -> str:
    """Returns the content of the file that a variable names. Raises ValueError."""
    try:
        value = Path(file).read_text().strip()
    except OSError as error:
        raise ValueError(f"{name.upper()}: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name.upper()}: {file} is not UTF-8") from None
    if not value:
        raise ValueError(f"{name.upper()}: {file} is empty")
    return value


def mistakes(
    prefix: str, fields: Collection[str], in_files: Collection[str], doors: Collection[str]
) -> Iterator[str]:
    """Yields a line for each variable with the prefix that cannot be meant."""
    names = {name.upper(): name for name in os.environ if name.upper().startswith(prefix)}
    for upper, name in sorted(names.items()):
        setting, value = upper.removeprefix(prefix).lower(), os.environ[name]
        in_file = setting.removesuffix("_file")
        is_file = setting.endswith("_file") and in_file in in_files
        if not is_file and setting not in fields and not SERVICE_LINK.fullmatch(f"{name}={value}"):
            yield f"{name}: there is no such setting"
        elif not value.strip() and (in_file if is_file else setting) in doors:
            yield f"{name}: is empty; unset it, or callers that it should keep out could get in"
        elif is_file and value and os.environ.get(names.get(upper.removesuffix("_FILE"), "")):
            yield f"{name}: {upper.removesuffix('_FILE')} is set, too"
