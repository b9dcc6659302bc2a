"""Reads rendered manifests, and answers what is in them."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml

ORIGIN = "config.kubernetes.io/origin"
"""The annotation in which kustomize names the file of an object."""
Data = dict[str, Any]


class Object(NamedTuple):
    """An object of Kubernetes, and the file it comes from."""

    data: Data
    file: str

    def __str__(self) -> str:
        return f"{self.file}: {self.kind} {self.name}"

    @property
    def kind(self) -> str:
        """Its kind."""
        return str(self.data["kind"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.data["metadata"]["name"])

    @property
    def spec(self) -> Data:
        """What is wanted of it; empty for kinds that have none."""
        spec: Data = self.data.get("spec") or {}
        return spec

    @property
    def pod(self) -> Data:
        """The spec of the pods that a workload makes."""
        pod: Data = self.spec["template"]["spec"]
        return pod

    @property
    def pod_labels(self) -> Mapping[str, str]:
        """The labels of the pods that a workload makes."""
        labels: Mapping[str, str] = self.spec["template"].get("metadata", {}).get("labels", {})
        return labels

    @property
    def container(self) -> Data:
        """The only container of a workload's pods."""
        container: Data = self.pod["containers"][0]
        return container

    def ports(self) -> dict[str, int]:
        """Returns the ports of the container, by name."""
        return {each["name"]: each["containerPort"] for each in self.container.get("ports", [])}


class Manifests:
    """The objects of a deployment."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def __iter__(self) -> Iterator[Object]:
        return iter(self.objects)

    def of(self, *kinds: str) -> list[Object]:
        """Returns the objects of some kinds."""
        return [each for each in self.objects if each.kind in kinds]

    def find(self, kind: str, name: str) -> Object | None:
        """Returns an object, or None."""
        return next((each for each in self.of(kind) if each.name == name), None)

    def workloads(self) -> list[Object]:
        """Returns the objects that make pods."""
        return self.of("Deployment", "Job")

    def selected(self, selector: Mapping[str, Any]) -> list[Object]:
        """Returns the workloads whose pods a label selector selects; an empty one selects all."""
        return [each for each in self.workloads() if selects(selector, each.pod_labels)]


def parse(text: str) -> Manifests:
    """Reads what `kustomize build` has printed. Raises ValueError."""
    try:
        documents = [each for each in yaml.load_all(text, yaml.CSafeLoader) if each is not None]
    except yaml.YAMLError as error:
        raise ValueError(f"the manifests are not YAML: {' '.join(str(error).split())}") from None
    return Manifests([_object(each) for each in documents])


def _object(data: Any) -> Object:
    if not isinstance(data, dict) or not {"apiVersion", "kind"} <= data.keys():
        raise ValueError("a document is not an object of Kubernetes: it has no apiVersion or kind")
    metadata = data.get("metadata") or {}
    if not metadata.get("name"):
        raise ValueError(f"an object of kind {data['kind']} has no name")
    origin = yaml.safe_load((metadata.get("annotations") or {}).get(ORIGIN, "")) or {}
    return Object(data, str(origin.get("path") or origin.get("configuredIn") or "?"))


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tells whether a label selector (matchLabels, matchExpressions) selects labels."""
    return all(
        labels.get(name) == value for name, value in (selector.get("matchLabels") or {}).items()
    ) and all(_meets(each, labels) for each in selector.get("matchExpressions") or [])


def _meets(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None


class Source(NamedTuple):
    """Where a file in a container comes from: a key of a ConfigMap or Secret."""

    kind: str
    name: str
    key: str


def source(pod: Data, path: str) -> Source | None:
    """Returns where a file comes from that is mounted into the first container, or None."""
    for mount in pod["containers"][0].get("volumeMounts", []):
        if not PurePosixPath(path).is_relative_to(mount["mountPath"]):
            continue
        file = str(PurePosixPath(path).relative_to(mount["mountPath"]))
        for volume in pod.get("volumes", []):
            if volume["name"] != mount["name"]:
                continue
            if secret := volume.get("secret"):
                return Source("Secret", secret["secretName"], _key(secret, file))
            if config_map := volume.get("configMap"):
                return Source("ConfigMap", config_map["name"], _key(config_map, file))
    return None


def _key(volume: Data, file: str) -> str:
    """Returns the key that a volume shows as a file."""
    return next((each["key"] for each in volume.get("items", []) if each["path"] == file), file)


def seconds(duration: str) -> float:
    """Returns the seconds in a duration such as 720h or 1h30m."""
    units = {"h": 3600, "m": 60, "s": 1}
    total, number = 0.0, ""
    for character in duration:
        if character in units:
            total, number = total + float(number) * units[character], ""
        else:
            number += character
    return total


def size(quantity: str) -> int:
    """Returns the bytes in a quantity such as 64Mi."""
    for unit, factor in (("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)):
        if quantity.endswith(unit):
            return int(quantity.removesuffix(unit)) * factor
    return int(quantity)
