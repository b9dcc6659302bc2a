"""Reads rendered manifests, and answers what is in them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml

WORKLOADS = ("Deployment", "Job")
"""The kinds that make pods."""
ORIGIN = "config.kubernetes.io/origin"
"""The annotation in which kustomize names the file of an object."""
Data = dict[str, Any]
Lines = Iterator[str]
PROVIDED = {
    ("Secret", "contacts-db-app"): {"uri"},  # CloudNativePG, for the owner of the database.
    ("Secret", "contacts-db-server"): {"uri"},  # You, for the role of the servers.
    ("Secret", "contacts-log"): {"secret"},  # You.
    ("ConfigMap", "contacts-authority"): {"ca.crt"},  # You, from the Secret of that name.
    ("ConfigMap", "kube-root-ca.crt"): {"ca.crt"},  # Kubernetes, in every namespace.
}
"""The keys of Secrets and ConfigMaps that come from elsewhere, and who makes them."""


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
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.data["metadata"].get("namespace", ""))

    @property
    def spec(self) -> Data:
        """What is wanted of it; empty for kinds that have none."""
        spec: Data = self.data.get("spec") or {}
        return spec

    @property
    def pod(self) -> Data:
        """The spec of the pods that a workload makes."""
        pod: Data = self.spec["template"].get("spec") or {}
        return pod

    @property
    def pod_labels(self) -> Mapping[str, str]:
        """The labels of the pods that a workload makes."""
        labels: Mapping[str, str] = (self.spec["template"].get("metadata") or {}).get(
            "labels"
        ) or {}
        return labels

    @property
    def container(self) -> Data:
        """The only container of a workload's pods."""
        container: Data = next(iter(self.pod.get("containers") or []), {})
        return container

    def ports(self) -> dict[str, int]:
        """Returns the ports of the container, by name."""
        return {
            each.get("name", str(each["containerPort"])): each["containerPort"]
            for each in self.container.get("ports", [])
        }


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
        return self.of(*WORKLOADS)

    def selected(self, selector: Data, *kinds: str) -> list[Object]:
        """Returns the workloads whose pods a label selector selects; an empty one selects all."""
        return [each for each in self.of(*kinds or WORKLOADS) if selects(selector, each.pod_labels)]

    def available(self) -> dict[tuple[str, str], set[str]]:
        """Returns the keys of each Secret and ConfigMap that will be there, by kind and name."""
        made = dict(PROVIDED)
        for each in self.of("ConfigMap"):
            made["ConfigMap", each.name] = set(each.data.get("data", {}))
        for each in self.of("Certificate"):
            made["Secret", each.spec["secretName"]] = {"ca.crt", "tls.crt", "tls.key"}
        return made


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
    container: Data = next(iter(pod.get("containers") or []), {})
    for mount in container.get("volumeMounts") or []:
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


UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(duration: str) -> float:
    """Returns the seconds in a duration such as 720h or 1h30m. Raises ValueError."""
    parts = re.findall(r"([\d.]+)([smh])", duration)
    if "".join(map("".join, parts)) != duration:
        raise ValueError(f"{duration!r} is not a duration such as 720h")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


SUFFIXES = {"": 1, "m": 0.001, "k": 1e3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def quantity(value: object) -> float:
    """Returns the number in a quantity such as 64Mi or 500m. Raises ValueError."""
    form = re.fullmatch(r"([\d.]+)(\w*)", str(value))
    if not form or form[2] not in SUFFIXES:
        raise ValueError(f"{value!r} is not a quantity such as 64Mi")
    return float(form[1]) * SUFFIXES[form[2]]
