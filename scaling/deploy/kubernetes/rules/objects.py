"""Rules for the objects as a set: complete, in one namespace, and selecting the right pods.

Like the rules of the other modules, each yields a line for every mistake, which begins with the
file and the object.
"""

from collections.abc import Iterator

from scaling.deploy.kubernetes.manifests import Data, Lines, Manifests, Object

CLUSTER_WIDE = {"Namespace", "ClusterRoleBinding"}
NEEDED = {
    *(
        "BackendTLSPolicy",
        "Certificate",
        "ClusterRoleBinding",
        "ConfigMap",
        "Deployment",
        "GRPCRoute",
    ),
    *("HorizontalPodAutoscaler", "Issuer", "Job", "Namespace", "NetworkPolicy"),
    *("PodDisruptionBudget", "PodMonitor", "Service", "ServiceAccount"),
}
DISCOVERY = "system:service-account-issuer-discovery"
"""The role that may read the public keys of service accounts, and nothing else."""
ANYBODY = "system:unauthenticated"


def complete(all_: Manifests) -> Lines:
    """Checks that nothing is missing or there twice, and that no secret is among it."""
    for kind in sorted(NEEDED - {each.kind for each in all_}):
        yield f"kustomization.yaml: there is no {kind}"
    seen = set()
    for each in all_:
        if (each.kind, each.name) in seen:
            yield f"{each}: is there twice"
        seen.add((each.kind, each.name))
        if each.kind == "Secret":
            yield f"{each}: a secret must not be among the manifests"


def namespaces(all_: Manifests) -> Lines:
    """Checks that all objects are in the namespace made here, which refuses privileged pods."""
    names = {each.name for each in all_.of("Namespace")}
    for each in all_:
        if each.kind not in CLUSTER_WIDE and each.namespace not in names:
            yield f"{each}: the namespace {each.namespace} is not among the manifests"
    for each in all_.of("Namespace"):
        labels = each.data["metadata"].get("labels", {})
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{each}: pod-security.kubernetes.io/enforce is not restricted"


def roles(all_: Manifests) -> Lines:
    """Checks that nobody gets a right beyond reading public keys."""
    for each in all_.of("ClusterRoleBinding"):
        if (role := each.data["roleRef"]["name"]) != DISCOVERY:
            yield f"{each}: grants {role}, only {DISCOVERY} is needed"
        if [subject["name"] for subject in each.data.get("subjects", [])] != [ANYBODY]:
            yield f"{each}: subjects must be {ANYBODY}, because the servers have no token"


def selectors(all_: Manifests) -> Lines:
    """Checks that what is for the servers selects their pods, and no others."""
    for each, selector in _for_servers(all_):
        chosen = all_.selected(selector)
        if not any(selector.values()):
            yield f"{each}: has no selector"
        elif not chosen:
            yield f"{each}: its selector matches the labels of no pod"
        elif any(workload.kind == "Job" for workload in chosen):
            yield f"{each}: its selector also matches the pods of a Job"
        elif selector not in [workload.spec["selector"] for workload in chosen]:
            yield f"{each}: its selector is not that of the Deployment"
    for each in all_.of("Deployment"):
        if each not in all_.selected(each.spec["selector"]):
            yield f"{each}: its selector does not match the labels of its own pods"
        spread = each.pod.get("topologySpreadConstraints")
        if not spread:
            yield f"{each}: has no topologySpreadConstraints: all servers may be on one node"
        for constraint in spread or []:
            if constraint.get("labelSelector") != each.spec["selector"]:
                yield f"{each}: topologySpreadConstraints: labelSelector is not its selector"


def _for_servers(all_: Manifests) -> Iterator[tuple[Object, Data]]:
    """Yields the objects that are for the servers only, each with its label selector."""
    for each in all_.of("Service"):
        yield each, {"matchLabels": each.spec.get("selector")}
    for each in all_.of("Deployment", "PodDisruptionBudget", "PodMonitor"):
        yield each, each.spec.get("selector") or {}


RULES = (complete, namespaces, roles, selectors)
