"""Rules for what reaches the servers: Services, network, certificates, metrics, the Gateway."""

from typing import Any

from production import contacts_server
from production.v1 import contacts_pb2
from production.v2 import contacts_pb2 as v2
from scaling.deploy.kubernetes import server
from scaling.deploy.kubernetes.manifests import (
    Data,
    Lines,
    Manifests,
    Object,
    seconds,
    source,
)

CONTRACTS = {
    contacts_server.SERVICE: contacts_pb2.DESCRIPTOR.services_by_name["ContactService"],
    contacts_server.SERVICE_V2: v2.DESCRIPTOR.services_by_name["ContactService"],
}
DNS = {("UDP", 53), ("TCP", 53)}
DATABASE = ("TCP", 5432)
API_SERVER = {("TCP", 443), ("TCP", 6443)}
"""The port of its Service, and the usual one behind it, which is what some networks check."""
DNS_PODS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
DATABASE_PODS = {"cnpg.io/cluster": "contacts-db"}
KEYS = {("ECDSA", 256), ("ECDSA", 384)}
"""The keys of certificates that gRPC's clients accept, of those that cert-manager makes quickly."""
JOB = "contacts"
"""The label `job` that the alerts and the dashboard ask for."""


def port_of(workload: Object, port: Any) -> int | None:
    """Returns the number of a container's port, given by its name or number, or None."""
    ports = workload.ports()
    return ports.get(port) if isinstance(port, str) else port if port in ports.values() else None


def services(all_: Manifests) -> Lines:
    """Checks that Services lead to the port for calls, one of them to each pod."""
    headless = [each for each in all_.of("Service") if each.spec.get("clusterIP") == "None"]
    if not headless:
        yield "services.yaml: there is no Service with clusterIP: None, for clients that balance"
    if len(headless) == len(all_.of("Service")):
        yield "services.yaml: there is no Service with an address, for the Gateway"
    for each in all_.of("Service"):
        if each.spec.get("type", "ClusterIP") != "ClusterIP":
            yield f"{each}: type {each.spec['type']} is reached from outside the cluster"
        if each.spec.get("publishNotReadyAddresses"):
            yield f"{each}: publishNotReadyAddresses gives clients the addresses of unready pods"
        if not each.spec.get("ports"):
            yield f"{each}: has no ports"
        if any(port.get("protocol", "TCP") != "TCP" for port in each.spec.get("ports", [])):
            yield f"{each}: gRPC needs the protocol TCP"
        if each.spec.get("externalIPs"):
            yield f"{each}: externalIPs are reached from outside the cluster"
        for workload in all_.selected({"matchLabels": each.spec.get("selector")}, "Deployment"):
            for port in each.spec.get("ports", []):
                target = port.get("targetPort", port["port"])
                calls = server.port(workload, "address")
                if port_of(workload, target) != calls:
                    yield f"{each}: targetPort {target} is not the servers' port for calls"
                elif port["port"] != calls:
                    yield f"{each}: port {port['port']} is not {calls}, which clients are told"


def network(all_: Manifests) -> Lines:
    """Checks that nothing is allowed by default, and that what is needed is."""
    for each in all_.of("NetworkPolicy"):
        yield from (f"{each}: {line}" for line in _policy_mistakes(each, all_))
    for workload in all_.workloads():
        chosen = [
            each
            for each in all_.of("NetworkPolicy")
            if workload in all_.selected(each.spec["podSelector"])
        ]
        if all({"ingress", "egress"} & each.spec.keys() for each in chosen):
            yield f"{workload}: no NetworkPolicy denies by default"
        yield from (f"{workload}: {line}" for line in _unreachable(workload, chosen))


def _policy_mistakes(policy: Object, all_: Manifests) -> Lines:
    if set(policy.spec.get("policyTypes", [])) != {"Ingress", "Egress"}:
        yield "policyTypes must be Ingress and Egress"
    chosen = all_.selected(policy.spec["podSelector"])
    if not chosen:
        yield "its podSelector matches the labels of no pod"
    if len(chosen) > 1 and {"ingress", "egress"} & policy.spec.keys():
        yield "its podSelector matches the pods of several workloads, and allows all the same"
    for rule in policy.spec.get("ingress", []):
        if not rule.get("from"):
            yield "ingress: a rule without `from` allows everybody"
        for port in rule.get("ports") or [{}]:
            if any(port_of(workload, port.get("port")) is None for workload in chosen):
                yield f"ingress: {port.get('port')} is not a port of its pods"
    for rule in policy.spec.get("egress", []):
        if not rule.get("ports"):
            yield "egress: a rule without `ports` allows all of them"
        elif not rule.get("to") and not _ports(rule) <= API_SERVER:
            yield "egress: a rule without `to` allows every address"
        if _ports(rule) & DNS and rule.get("to") != [DNS_PODS]:
            yield "egress: names must be resolved by the pods k8s-app: kube-dns of kube-system only"


def _unreachable(workload: Object, policies: list[Object]) -> Lines:
    """Yields the connections that a pod needs and that no policy allows."""
    egress = [rule for each in policies for rule in each.spec.get("egress", [])]
    needed = {*DNS, DATABASE} | (API_SERVER if workload.kind == "Deployment" else set())
    for protocol, number in sorted(needed - {port for rule in egress for port in _ports(rule)}):
        yield f"no NetworkPolicy allows it to reach {protocol} port {number}"
    peers = [peer for rule in egress if DATABASE in _ports(rule) for peer in rule.get("to", [])]
    if not any(peer.get("podSelector", {}).get("matchLabels") == DATABASE_PODS for peer in peers):
        yield "no NetworkPolicy allows it to reach the pods of contacts-db"
    ingress = [rule for each in policies for rule in each.spec.get("ingress", [])]
    opened = {
        port_of(workload, port.get("port")) for rule in ingress for port in rule.get("ports", [])
    }
    for name, number in workload.ports().items():
        if name != "health" and number not in opened:
            yield f"no NetworkPolicy allows others to reach its port {name}"
        if name == "health" and number in opened:
            yield "a NetworkPolicy allows others than the kubelet to reach its port health"


def _ports(rule: Data) -> set[tuple[str, Any]]:
    """Returns the ports of a rule, with their protocols."""
    return {(port.get("protocol", "TCP"), port.get("port")) for port in rule.get("ports", [])}


def certificates(all_: Manifests) -> Lines:
    """Checks that certificates have the names that clients use, and that somebody issues them."""
    for each in all_.of("Issuer"):
        if not each.spec:
            yield f"{each}: issues nothing"
        authority = each.spec.get("ca", {}).get("secretName")
        if authority and ("Secret", authority) not in all_.available():
            yield f"{each}: nobody makes the Secret {authority}"
    if all(each.spec.get("isCA") for each in all_.of("Certificate")):
        yield "certificates.yaml: there is no Certificate for the servers: all have isCA"
    for each in all_.of("Certificate"):
        issuer = each.spec["issuerRef"]
        if issuer.get("kind", "Issuer") == "Issuer" and not all_.find("Issuer", issuer["name"]):
            yield f"{each}: there is no Issuer {issuer['name']}"
        if seconds(each.spec.get("renewBefore", "0s")) >= seconds(
            each.spec.get("duration", "2160h")
        ):
            yield f"{each}: renewBefore is not less than duration"
        key = each.spec.get("privateKey", {})
        if (key.get("algorithm"), key.get("size")) not in KEYS:
            yield f"{each}: privateKey must be ECDSA of size 256 or 384"
        if not each.spec.get("isCA"):
            yield from (f"{each}: {line}" for line in _server_certificate_mistakes(each, all_))


def _server_certificate_mistakes(certificate: Object, all_: Manifests) -> Lines:
    if "server auth" not in certificate.spec.get("usages", []):
        yield "usages must have server auth"
    for service in all_.of("Service"):
        name = f"{service.name}.{service.namespace}.svc"
        for each in (name, f"{name}.cluster.local"):
            if each not in certificate.spec.get("dnsNames", []):
                yield f"dnsNames lacks {each}"
    for workload in all_.of("Deployment"):
        found = source(workload.pod, server.variables(workload).get("CONTACTS_CERTIFICATE", ""))
        key = source(workload.pod, server.variables(workload).get("CONTACTS_KEY", ""))
        secret = certificate.spec["secretName"]
        if not (found and key and found.name == key.name == secret):
            yield f"the servers do not read a certificate and key of its Secret {secret}"


def monitoring(all_: Manifests) -> Lines:
    """Checks that Prometheus finds the metrics, under the name that the alerts ask for."""
    for each in all_.of("PodMonitor"):
        if not each.spec.get("podMetricsEndpoints"):
            yield f"{each}: has no endpoints"
        spaces = each.spec.get("namespaceSelector", {})
        if each.namespace not in spaces.get("matchNames", [each.namespace]):
            yield f"{each}: namespaceSelector leaves out {each.namespace}, where the servers are"
        for workload in all_.selected(each.spec["selector"], "Deployment"):
            for endpoint in each.spec.get("podMetricsEndpoints", []):
                port = endpoint.get("port")
                if port_of(workload, port) != server.port(workload, "metrics_address"):
                    yield f"{each}: {port} is not the servers' port for metrics"
                if (path := endpoint.get("path", "/metrics")) != "/metrics":
                    yield f"{each}: the metrics are at /metrics, not at {path}"
                if (scheme := endpoint.get("scheme", "http").lower()) != "http":
                    yield f"{each}: the metrics are served by http, not by {scheme}"
            if (job := workload.pod_labels.get(each.spec.get("jobLabel", ""))) != JOB:
                yield f"{each}: jobLabel makes the job {job}, the alerts ask for {JOB}"


def routes(all_: Manifests) -> Lines:
    """Checks that the Gateway sends methods that exist to a Service that exists, by TLS."""
    encrypted = {
        target["name"] for each in all_.of("BackendTLSPolicy") for target in each.spec["targetRefs"]
    }
    for each in all_.of("GRPCRoute"):
        for name in ("hostnames", "parentRefs", "rules"):
            if not each.spec.get(name):
                yield f"{each}: has no {name}"
        for rule in each.spec.get("rules", []):
            if not rule.get("backendRefs"):
                yield f"{each}: a rule has no backendRefs"
            yield from (f"{each}: {line}" for line in _method_mistakes(rule))
            for backend in rule.get("backendRefs", []):
                service = all_.find("Service", backend["name"])
                space = backend.get("namespace", each.namespace)
                if (kind := backend.get("kind", "Service")) != "Service":
                    yield f"{each}: sends calls to a {kind}"
                elif not service or service.namespace != space:
                    yield f"{each}: there is no Service {backend['name']} in {space}"
                elif backend.get("weight", 1) == 0:
                    yield f"{each}: weight is 0, so {service.name} gets no calls"
                elif backend.get("port") not in {
                    port["port"] for port in service.spec.get("ports", [])
                }:
                    yield f"{each}: the Service {service.name} has no port {backend.get('port')}"
                elif service.name not in encrypted:
                    yield f"{each}: without a BackendTLSPolicy {service.name} would get plaintext"
    for each in all_.of("BackendTLSPolicy"):
        yield from (f"{each}: {line}" for line in _encryption_mistakes(each, all_))


def _method_mistakes(rule: Data) -> Lines:
    if not rule.get("matches"):
        yield "a rule without matches takes all services, health and reflection among them"
    for match in rule.get("matches", []):
        method = match.get("method", {})
        service = CONTRACTS.get(method.get("service"))
        if not service:
            yield f"there is no service {method.get('service')}"
        elif method.get("type", "Exact") != "Exact":
            yield f"{service.full_name} is matched as {method['type']}, not exactly"
        elif (name := method.get("method")) and name not in service.methods_by_name:
            yield f"the service {service.full_name} has no method {name}"


def _encryption_mistakes(policy: Object, all_: Manifests) -> Lines:
    for target in policy.spec["targetRefs"]:
        if target["group"] or not all_.find(target["kind"], target["name"]):
            yield f"there is no {target['kind']} {target['name']}"
    validation = policy.spec["validation"]
    names = {name for each in all_.of("Certificate") for name in each.spec.get("dnsNames", [])}
    if validation["hostname"] not in names:
        yield f"no certificate is for {validation['hostname']}"
    if not validation.get("caCertificateRefs"):
        yield "has no caCertificateRefs, so no certificate is accepted"
    for authority in validation.get("caCertificateRefs", []):
        if (authority["kind"], authority["name"]) not in all_.available():
            yield f"nobody makes the {authority['kind']} {authority['name']}"


RULES = (services, network, certificates, monitoring, routes)
