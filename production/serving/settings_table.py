"""Describes the fields of settings: as a table in Markdown for their page, and as lines of help."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

KINDS = {bool: "`true`, `false`", int: "number", str: "text", Path: "path"}
Fields = Mapping[str, FieldInfo]


def table(prefix: str, fields: Fields, in_files: Collection[str]) -> str:
    """Returns the table; in_files are the settings that NAME_FILE may hold."""
    rows = ["| variable | value | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        variable = f"`{prefix}{name.upper()}`" + (", `…_FILE`" if name in in_files else "")
        values = _values(field.annotation, field.metadata)
        rows.append(f"| {variable} | {values} | {_cell(field)} | {field.description} |")
    return "\n".join(rows)


def members(fields: Fields) -> str:
    """Returns the table of the members of a setting that is a JSON object."""
    rows = ["| member | value | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        values = _values(field.annotation, field.metadata)
        default = "required" if field.is_required() else _cell(field)
        rows.append(f"| `{name}` | {values} | {default} | {field.description} |")
    return "\n".join(rows)


def lines(prefix: str, fields: Fields) -> Iterator[str]:
    """Yields a line for each setting."""
    for name, field in fields.items():
        values = _values(field.annotation, field.metadata).replace("`", "")
        default = f"; default: {_default(field)}" if _default(field) else ""
        yield f"  {prefix}{name.upper():18}{field.description} ({values}{default})"


def _cell(field: FieldInfo) -> str:
    return f"`{_default(field)}`" if _default(field) else ""


def _default(field: FieldInfo) -> str:
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if isinstance(field.default, frozenset):
        return json.dumps(sorted(field.default))
    return "" if field.default is None else str(field.default)


def _values(annotation: Any, metadata: list[Any]) -> str:
    """Names the values of a type: their unit, or what they may be."""
    for unit in metadata:
        if isinstance(unit, str):
            return unit
    match get_origin(annotation), get_args(annotation):
        case None, _:
            return KINDS[annotation]
        case origin, (first, *more) if origin is Annotated:
            return _values(first, more)
        case origin, words if origin is Literal:
            return ", ".join(f"`{word}`" for word in words)
        case _, alternatives:
            return ", ".join(_values(each, []) for each in alternatives if each is not NoneType)
