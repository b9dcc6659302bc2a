"""Checks objects against the schemas of their kinds: Kubernetes' own, and custom resources.

The schemas of custom resources come from the Go modules of the projects that define them.

Run it to download those modules:

    python -m scaling.deploy.kubernetes.schemas
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import SchemaNotFoundError

from production.development import programs
from production.development.programs import AbsentError

KUBERNETES = "1.37"


class Module(NamedTuple):
    """A Go module that brings custom resource definitions."""

    path: str
    version: str
    sum: str
    """The hash of its content, as go.sum has it."""
    folder: str


MODULES = {
    "cert-manager.io": Module(
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        "deploy/crds",
    ),
    "gateway.networking.k8s.io": Module(
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
        "config/crd/standard",
    ),
    "monitoring.coreos.com": Module(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        "example/prometheus-operator-crd",
    ),
}
"""By API group."""


def mistakes(data: dict[str, Any]) -> Iterator[str]:
    """Yields what an object's schema does not allow, unknown fields among it.

    Raises AbsentError if the schema of a custom resource is unavailable.
    """
    group, _, version = data["apiVersion"].rpartition("/")
    if group in MODULES:
        yield from _custom_mistakes(data, group, version)
        return
    try:
        kubernetes_validate.validate(data, KUBERNETES, strict=True)
    except SchemaNotFoundError:
        yield _unknown(data)
    except kubernetes_validate.ValidationError as error:
        yield _line(error.absolute_path, error.message)


def _custom_mistakes(data: dict[str, Any], group: str, version: str) -> Iterator[str]:
    schema = _custom_schema(group, version, data["kind"])
    if schema is None:
        yield _unknown(data)
        return
    for error in Draft202012Validator(schema).iter_errors(data):
        yield _line(error.absolute_path, error.message)


def _unknown(data: dict[str, Any]) -> str:
    return f"there is no kind {data['kind']} in {data['apiVersion']}"


def _line(path: Any, message: str) -> str:
    return f"{'.'.join(map(str, path))}: {message}".removeprefix(": ").splitlines()[0]


@cache
def _custom_schema(group: str, version: str, kind: str) -> dict[str, Any] | None:
    """Returns the schema of a custom resource, or None if its group has no such kind."""
    for file in (download(MODULES[group]) / MODULES[group].folder).glob(f"{group}_*.yaml"):
        text = file.read_text()
        if f"    kind: {kind}\n" not in text:
            continue
        for each in yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]:
            if each["name"] == version and each["served"]:
                schema: dict[str, Any] = _strict(each["schema"]["openAPIV3Schema"])
                return schema
    return None


def _strict(schema: Any) -> Any:
    """Forbids fields that a schema does not list, as the API server does for kubectl."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items()}
    is_open = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & schema.keys()
    if schema.get("type") == "object" and "properties" in schema and not is_open:
        strict["additionalProperties"] = False
    return strict


@cache
def download(module: Module) -> Path:
    """Returns the folder of a module, from Go's cache or proxy. Raises AbsentError."""
    command = [programs.find("go"), "mod", "download", "-json", f"{module.path}@{module.version}"]
    done = subprocess.run(
        command, cwd="/", env=os.environ | {"GOTOOLCHAIN": "local"}, capture_output=True, text=True
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"Error": done.stderr.strip() or "go failed"}
    if "Error" in answer:
        raise AbsentError(f"{module.path} {module.version}: {answer['Error'].splitlines()[0]}")
    if answer["Sum"] != module.sum:
        raise AbsentError(f"{module.path} {module.version}: its content is not the expected one")
    return Path(answer["Dir"])


def main() -> None:
    for module in MODULES.values():
        try:
            download(module)
        except AbsentError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
