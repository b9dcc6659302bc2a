"""Rules for the number of servers: by which metric it grows, how far, and when one may be away."""

import re
from pathlib import Path

import yaml
from prometheus_client import REGISTRY

# Its metrics are in the registry once it is imported.
from production import contacts_server  # noqa: F401
from production.serving.settings import Settings
from scaling.deploy.kubernetes import server
from scaling.deploy.kubernetes.manifests import Data, Lines, Manifests, Object, quantity

ADAPTER = Path(__file__).parent.parent / "metrics-adapter.yaml"
TAKEN = "contacts_admission_taken"
SERIES = re.compile(r"(\w+)\{([^}]*)\}")
"""A series in PromQL: its name and its labels."""
DATABASE_CONNECTIONS = 97
"""PostgreSQL's defaults: max_connections, less superuser_reserved_connections."""


def adapter(_all: Manifests) -> Lines:
    """Checks that the metrics adapter asks for series that the servers expose."""
    exposed = {metric.name for metric in REGISTRY.collect()}
    for rule in _adapter_rules():
        for query in ("seriesQuery", "metricsQuery"):
            for name, labels in SERIES.findall(rule[query]) or [(rule[query], "")]:
                if name not in exposed:
                    yield f"{ADAPTER.name}: {query}: the servers have no metric {name}"
                elif name == TAKEN and 'kind="call"' not in labels:
                    yield f"{ADAPTER.name}: {query} counts watches, too"
        if not {"namespace", "pod"} <= rule["resources"].get("overrides", {}).keys():
            yield f"{ADAPTER.name}: overrides must name namespace and pod"


def _adapter_rules() -> list[Data]:
    rules: list[Data] = yaml.safe_load(ADAPTER.read_text())["rules"]
    return rules


def autoscaler(all_: Manifests) -> Lines:
    """Checks that the autoscaler scales what is there, by a metric that is there."""
    for each in all_.of("HorizontalPodAutoscaler"):
        target = each.spec["scaleTargetRef"]
        found = all_.find(target["kind"], target["name"])
        if not found or found.data["apiVersion"] != target.get("apiVersion"):
            yield f"{each}: there is no {target['kind']} {target['name']} to scale"
            continue
        if "replicas" in found.spec:
            yield f"{found}: has replicas, and each apply would undo what {each.kind} has set"
        smallest, largest = each.spec.get("minReplicas", 1), each.spec["maxReplicas"]
        if not 2 <= smallest <= largest:
            yield f"{each}: minReplicas is {smallest}, and must be 2 to {largest}"
        yield from (f"{each}: {line}" for line in _metric_mistakes(each))
        if loaded := server.load(found, all_):
            yield from (f"{each}: {line}" for line in _load_mistakes(each, loaded))


def _metrics(autoscaler: Object) -> list[Data]:
    return [each["pods"] for each in autoscaler.spec.get("metrics", []) if each["type"] == "Pods"]


def _metric_mistakes(autoscaler: Object) -> Lines:
    if not _metrics(autoscaler):
        yield "has no metric of its pods"
    known = {each["name"]["as"] for each in _adapter_rules()}
    for each in _metrics(autoscaler):
        if each["metric"]["name"] not in known:
            yield f"{ADAPTER.name} has no metric {each['metric']['name']}"


def _load_mistakes(autoscaler: Object, loaded: Settings) -> Lines:
    for each in _metrics(autoscaler):
        average = quantity(each["target"].get("averageValue", 0))
        if not 0 < average < loaded.connections:
            yield (
                f"averageValue is {average:g}; "
                f"from {loaded.connections} on, calls wait for a database connection"
            )
    down = autoscaler.spec.get("behavior", {}).get("scaleDown", {})
    if (window := down.get("stabilizationWindowSeconds", 300)) < loaded.connection_age:
        yield (
            f"stabilizationWindowSeconds is {window}, and connections stay where they are for "
            f"{loaded.connection_age:g} s"
        )
    for name, policy in autoscaler.spec.get("behavior", {}).items():
        if policy.get("selectPolicy") == "Disabled":
            yield f"{name} is disabled"
    pods = autoscaler.spec["maxReplicas"]
    # Twice, because during a rollout the servers of both releases have connections.
    if (connections := loaded.connections * loaded.workers * pods * 2) > DATABASE_CONNECTIONS:
        yield (
            f"{pods} pods may take {connections} database connections during a rollout, "
            f"the database has {DATABASE_CONNECTIONS}"
        )


def disruption(all_: Manifests) -> Lines:
    """Checks that a node can be emptied, and that servers are left."""
    smallest = min(
        (each.spec.get("minReplicas", 1) for each in all_.of("HorizontalPodAutoscaler")), default=1
    )
    for each in all_.of("PodDisruptionBudget"):
        if (away := each.spec.get("maxUnavailable", 0)) not in range(1, smallest):
            yield f"{each}: maxUnavailable is {away} of {smallest} servers, and must be 1 or more"


RULES = (adapter, autoscaler, disruption)
