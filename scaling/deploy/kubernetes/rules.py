"""What schemas cannot see: whether the objects fit together, and fit the server.

Each rule yields a line for each mistake, which begins with the object and its file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from production.calling import addresses
from production.contacts.import_buffer import MAX_BYTES
from production.serving.settings import Settings
from production.v1 import contacts_pb2
from production.v2 import contacts_pb2 as v2
from scaling.deploy.kubernetes import server
from scaling.deploy.kubernetes.manifests import Data, Manifests, Object, seconds, size, source

FOLDER = Path(__file__).parent
CONTRACTS = {
    each.full_name: each
    for each in (
        contacts_pb2.DESCRIPTOR.services_by_name["ContactService"],
        v2.DESCRIPTOR.services_by_name["ContactService"],
    )
}
CLUSTER_WIDE = {"Namespace", "ClusterRoleBinding"}
NEEDED = {
    "Namespace", "ServiceAccount", "Deployment", "Job", "Service", "PodDisruptionBudget",
    "HorizontalPodAutoscaler", "NetworkPolicy", "Certificate", "Issuer", "PodMonitor", "GRPCRoute",
    "BackendTLSPolicy", "ConfigMap",
}  # fmt: skip
PROVIDED = {
    ("Secret", "contacts-db-app"): {"uri"},  # CloudNativePG, for the owner of the database.
    ("Secret", "contacts-db-server"): {"uri"},  # Yours, for the role of the servers.
    ("Secret", "contacts-log"): {"secret"},  # Yours.
    ("ConfigMap", "contacts-authority"): {"ca.crt"},  # Yours, from the Secret of that name.
    ("ConfigMap", "kube-root-ca.crt"): {"ca.crt"},  # Kubernetes, in every namespace.
}
"""The keys of Secrets and ConfigMaps that are not made here, and who makes them."""
MARGIN_S = 5
"""Seconds that the server may take to stop after its drain."""
RESOLUTION_S = 30
"""Seconds after which a gRPC client resolves a name again, at the earliest."""
DATABASE_CONNECTIONS = 97
"""PostgreSQL's defaults: max_connections, less superuser_reserved_connections."""
CHANGES = "or its change is not noticed while the pod runs"
Lines = Iterator[str]


def complete(all_: Manifests) -> Lines:
    """Nothing is missing, and nothing there twice."""
    for kind in sorted(NEEDED - {each.kind for each in all_}):
        yield f"kustomization.yaml: there is no {kind}"
    seen = set()
    for each in all_:
        if (each.kind, each.name) in seen:
            yield f"{each}: is there twice"
        seen.add((each.kind, each.name))


def namespaces(all_: Manifests) -> Lines:
    """All objects are in the namespace that is made here, and it refuses privileged pods."""
    names = {each.name for each in all_.of("Namespace")}
    for each in all_:
        namespace = each.data["metadata"].get("namespace")
        if each.kind not in CLUSTER_WIDE and namespace not in names:
            yield f"{each}: the namespace {namespace} is not among the manifests"
    for each in all_.of("Namespace"):
        labels = each.data["metadata"].get("labels", {})
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{each}: pod-security.kubernetes.io/enforce is not restricted"


def _selectors(all_: Manifests) -> Iterator[tuple[Object, Data]]:
    """Yields the objects that are for servers only, each with its label selector."""
    for each in all_.of("Service"):
        yield each, {"matchLabels": each.spec.get("selector") or {}}
    for each in all_.of("PodDisruptionBudget", "PodMonitor"):
        yield each, each.spec.get("selector") or {}


def selectors(all_: Manifests) -> Lines:
    """What is for the servers selects their pods, and no others."""
    for each, selector in _selectors(all_):
        if not any(selector.values()):
            yield f"{each}: has no selector"
            continue
        kinds = {workload.kind for workload in all_.selected(selector)}
        if not kinds:
            yield f"{each}: its selector matches the labels of no pod"
        elif kinds != {"Deployment"}:
            yield f"{each}: its selector also matches the pods of a Job"
    for each in all_.of("Deployment"):
        if each not in all_.selected(each.spec["selector"]):
            yield f"{each}: its selector does not match the labels of its own pods"
        elif len(all_.selected(each.spec["selector"])) > 1:
            yield f"{each}: its selector also matches the pods of a Job"
        for constraint in each.pod.get("topologySpreadConstraints", []):
            if each not in all_.selected(
                constraint.get("labelSelector") or {"matchLabels": {"": ""}}
            ):
                yield f"{each}: topologySpreadConstraints: its labelSelector matches no pod of it"


def service_ports(all_: Manifests) -> Lines:
    """Each port of a Service leads to a port of the servers: the one for calls."""
    for each in all_.of("Service"):
        for workload in all_.selected({"matchLabels": each.spec.get("selector") or {"": ""}}):
            for port in each.spec["ports"]:
                target = port.get("targetPort", port["port"])
                if _port(workload, target) != server.port(workload, "address"):
                    yield f"{each}: targetPort {target} is not the port for calls of {workload.name}"
                elif port["port"] != server.port(workload, "address"):
                    yield f"{each}: port {port['port']} is not the one that clients are told"
    if not any(each.spec.get("clusterIP") == "None" for each in all_.of("Service")):
        yield "services.yaml: there is no Service with clusterIP: None, for clients that balance"
    if all(each.spec.get("clusterIP") == "None" for each in all_.of("Service")):
        yield "services.yaml: there is no Service with an address, for the Gateway"


def _port(workload: Object, port: Any) -> int | None:
    """Returns the number of a container's port, given by its name or number, or None."""
    ports = workload.ports()
    return ports.get(port) if isinstance(port, str) else port if port in ports.values() else None


def settings(all_: Manifests) -> Lines:
    """The server would start with its environment, and listens on the ports that are declared."""
    for each in all_.workloads():
        yield from (f"{each}: {mistake}" for mistake in server.mistakes(each, all_))
    for each in all_.of("Deployment"):
        declared = sorted(each.ports().values())
        listening = sorted(server.ports(each))
        if listening != declared:
            yield f"{each}: ports {declared} are declared, its settings listen on {listening}"
        for name in ("address", "health_address", "metrics_address"):
            if host := server.host(each, name):
                if host.is_loopback:
                    yield f"{each}: CONTACTS_{name.upper()} is reached from inside its pod only"
            else:
                yield f"{each}: CONTACTS_{name.upper()} is not set"


def one_process(all_: Manifests) -> Lines:
    """A pod is one process: the autoscaler, the probes and the limits are for one."""
    for each in all_.of("Deployment"):
        loaded = server.load(each, all_)
        if loaded and loaded.workers > 1:
            yield f"{each}: CONTACTS_WORKERS is {loaded.workers}; add pods instead of processes"
        if len(each.pod["containers"]) > 1:
            yield f"{each}: has several containers"


PROBES = {
    "startupProbe": {*CONTRACTS},
    "readinessProbe": {*CONTRACTS},
    "livenessProbe": {""},
}
"""The services that each probe may ask for."""


def probes(all_: Manifests) -> Lines:
    """The probes ask the health port, for a service that it knows; liveness outlasts a drain."""
    for each in all_.of("Deployment"):
        for name, services in PROBES.items():
            probe = each.container.get(name, {}).get("grpc")
            if not probe:
                yield f"{each}: has no {name} by grpc"
            elif probe["port"] != server.port(each, "health_address"):
                yield f"{each}: {name} asks port {probe['port']}, which is not the health port"
            elif probe.get("service", "") not in services:
                yield (
                    f"{each}: {name} asks for the service {probe.get('service', '')!r}, "
                    f"instead of {min(services)!r}"
                )
        liveness = each.container.get("livenessProbe", {})
        patience = liveness.get("periodSeconds", 10) * liveness.get("failureThreshold", 3)
        if patience <= (grace := each.pod.get("terminationGracePeriodSeconds", 30)):
            yield (
                f"{each}: livenessProbe gives up after {patience} s, and a drain may take {grace} s"
            )


def times(all_: Manifests) -> Lines:
    """A pod has the time to drain, and a rollout waits until clients have found new pods."""
    for each in all_.of("Deployment"):
        loaded = server.load(each, all_)
        grace = each.pod.get("terminationGracePeriodSeconds", 30)
        if loaded and grace <= (drain := loaded.drain_pause + loaded.grace + MARGIN_S):
            yield (
                f"{each}: terminationGracePeriodSeconds is {grace}, but a drain takes {drain:g} s: "
                f"DRAIN_PAUSE {loaded.drain_pause:g}, GRACE {loaded.grace:g} and {MARGIN_S}"
            )
        if loaded and loaded.drain_pause < 10:
            yield (
                f"{each}: CONTACTS_DRAIN_PAUSE is {loaded.drain_pause:g}, "
                "less than the 10 s that a Service takes to forget a pod"
            )
        if (ready := each.spec.get("minReadySeconds", 0)) < RESOLUTION_S:
            yield f"{each}: minReadySeconds is {ready}, clients resolve names every {RESOLUTION_S} s"
        rolling = each.spec.get("strategy", {}).get("rollingUpdate") or {}
        if rolling.get("maxUnavailable") != 0:
            yield f"{each}: maxUnavailable is not 0: a rollout would end servers before new ones are ready"


def _made(all_: Manifests) -> dict[tuple[str, str], set[str]]:
    """Returns the keys of each Secret and ConfigMap that will be there."""
    made = dict(PROVIDED)
    for each in all_.of("ConfigMap", "Secret"):
        made[each.kind, each.name] = {*each.data.get("data", {}), *each.data.get("stringData", {})}
    for each in all_.of("Certificate"):
        made["Secret", each.spec["secretName"]] = {"ca.crt", "tls.crt", "tls.key"}
    return made


def references(all_: Manifests) -> Lines:
    """Whatever is named is there: volumes, files, Secrets, accounts."""
    made = _made(all_)
    accounts = {each.name for each in all_.of("ServiceAccount")}
    for each in all_.workloads():
        yield from (f"{each}: {line}" for line in _volume_mistakes(each, made))
        for name, path in server.files(each).items():
            found = source(each.pod, path)
            if not found:
                yield f"{each}: {name}: no volume brings {path}"
            elif found.key not in made.get((found.kind, found.name), {found.key}):
                yield f"{each}: {name}: the {found.kind} {found.name} has no key {found.key}"
        if (account := each.pod.get("serviceAccountName")) not in accounts:
            yield f"{each}: there is no ServiceAccount {account}"


def _volume_mistakes(workload: Object, made: dict[tuple[str, str], set[str]]) -> Lines:
    volumes = {each["name"]: each for each in workload.pod.get("volumes", [])}
    mounts = workload.container.get("volumeMounts", [])
    for mount in mounts:
        if mount["name"] not in volumes:
            yield f"there is no volume {mount['name']}"
        elif mount.get("subPath"):
            yield f"the volume {mount['name']} must not be mounted by subPath, {CHANGES}"
    for name in volumes.keys() - {each["name"] for each in mounts}:
        yield f"the volume {name} is not mounted"
    for name, volume in volumes.items():
        secret, config_map = volume.get("secret"), volume.get("configMap")
        if secret and ("Secret", secret["secretName"]) not in made:
            yield f"nobody makes the Secret {secret['secretName']}"
        if secret and secret.get("defaultMode", 0o644) & 0o007:
            yield f"the volume {name} can be read by others: set its defaultMode to 0440"
        if config_map and ("ConfigMap", config_map["name"]) not in made:
            yield f"nobody makes the ConfigMap {config_map['name']}"
    for variable in workload.container.get("env", []):
        for kind, reference in (variable.get("valueFrom") or {}).items():
            target = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}.get(kind)
            if target and reference["key"] not in made.get((target, reference["name"]), set()):
                yield f"{variable['name']}: nobody makes {reference['key']} of {target} {reference['name']}"


def autoscaling(all_: Manifests) -> Lines:
    """The autoscaler scales what is there, by a metric that the adapter has."""
    rules = yaml.safe_load((FOLDER / "metrics-adapter.yaml").read_text())["rules"]
    metrics = {each["name"]["as"] for each in rules}
    for each in all_.of("HorizontalPodAutoscaler"):
        target = each.spec["scaleTargetRef"]
        found = all_.find(target["kind"], target["name"])
        if not found or found.data["apiVersion"] != target.get("apiVersion"):
            yield f"{each}: there is no {target['kind']} {target['name']} to scale"
            continue
        if "replicas" in found.spec:
            yield f"{found}: has replicas, and each apply would undo what {each.kind} has set"
        if each.spec.get("minReplicas", 1) < 2:
            yield f"{each}: minReplicas is less than 2: one server can be away"
        if each.spec.get("minReplicas", 1) > each.spec["maxReplicas"]:
            yield f"{each}: minReplicas is more than maxReplicas"
        yield from (
            f"{each}: {line}" for line in _load_mistakes(each, metrics, server.load(found, all_))
        )


def _load_mistakes(autoscaler: Object, known: set[str], loaded: Settings | None) -> Lines:
    metrics = [
        each["pods"] for each in autoscaler.spec.get("metrics", []) if each["type"] == "Pods"
    ]
    if not metrics:
        yield "has no metric of its pods"
    for each in metrics:
        if each["metric"]["name"] not in known:
            yield f"metrics-adapter.yaml has no metric {each['metric']['name']}"
        average = float(each["target"].get("averageValue", 0))
        if loaded and not 0 < average < loaded.connections:
            yield f"averageValue is {average:g}, and from {loaded.connections} on calls wait for a connection"
    if loaded:
        pods = autoscaler.spec["maxReplicas"]
        if (connections := loaded.connections * pods * 2) > DATABASE_CONNECTIONS:
            yield (
                f"{pods} pods may take {connections} database connections during a rollout, "
                f"the database has {DATABASE_CONNECTIONS}"
            )


def disruption(all_: Manifests) -> Lines:
    """Emptying a node is possible, and leaves servers."""
    smallest = min(
        (each.spec.get("minReplicas", 1) for each in all_.of("HorizontalPodAutoscaler")), default=1
    )
    for each in all_.of("PodDisruptionBudget"):
        if each.spec.get("maxUnavailable", 0) not in range(1, smallest):
            yield f"{each}: maxUnavailable must be 1 to {smallest - 1}, or nodes cannot be emptied"


def network(all_: Manifests) -> Lines:
    """By default nothing is allowed; what is allowed names ports that are there."""
    policies = all_.of("NetworkPolicy")
    for each in policies:
        if set(each.spec.get("policyTypes", [])) != {"Ingress", "Egress"}:
            yield f"{each}: policyTypes must be Ingress and Egress"
        chosen = all_.selected(each.spec["podSelector"])
        if not chosen:
            yield f"{each}: its podSelector matches the labels of no pod"
        for rule in each.spec.get("ingress", []):
            if not rule.get("from"):
                yield f"{each}: ingress: a rule without `from` allows everybody"
            for port in rule.get("ports", []) or [{}]:
                if any(_port(workload, port.get("port")) is None for workload in chosen):
                    yield f"{each}: ingress: {port.get('port')} is not a port of its pods"
    denying = [each for each in policies if not {"ingress", "egress"} & each.spec.keys()]
    for workload in all_.workloads():
        chosen = [each for each in policies if workload in all_.selected(each.spec["podSelector"])]
        if not set(map(str, chosen)) & set(map(str, denying)):
            yield f"{workload}: no NetworkPolicy denies by default"
        yield from (f"{workload}: {line}" for line in _unreachable(workload, chosen))


def _unreachable(workload: Object, policies: list[Object]) -> Lines:
    """Yields the connections that a pod needs and that no policy allows."""
    egress = [rule for each in policies for rule in each.spec.get("egress", [])]
    opened = {port["port"] for rule in egress for port in rule.get("ports", [])}
    yield from (
        f"no NetworkPolicy allows it to reach port {port}"
        for port in (53, 5432)
        if port not in opened
    )
    database = [
        rule
        for rule in egress
        if any(
            (peer.get("podSelector") or {}).get("matchLabels") == {"cnpg.io/cluster": "contacts-db"}
            for peer in rule.get("to", [])
        )
    ]
    if not database:
        yield "no NetworkPolicy allows it to reach the pods of contacts-db"
    ingress = [rule for each in policies for rule in each.spec.get("ingress", [])]
    allowed = {_port(workload, port["port"]) for rule in ingress for port in rule.get("ports", [])}
    for name, number in workload.ports().items():
        if name != "health" and number not in allowed:
            yield f"no NetworkPolicy allows others to reach its port {name}"


def certificates(all_: Manifests) -> Lines:
    """Certificates are for the names that clients use, and somebody issues them."""
    issuers = {each.name for each in all_.of("Issuer")}
    made = _made(all_)
    for each in all_.of("Issuer"):
        if (authority := each.spec.get("ca", {}).get("secretName")) and (
            "Secret",
            authority,
        ) not in made:
            yield f"{each}: nobody makes the Secret {authority}"
    for each in all_.of("Certificate"):
        reference = each.spec["issuerRef"]
        if reference.get("kind", "Issuer") == "Issuer" and reference["name"] not in issuers:
            yield f"{each}: there is no Issuer {reference['name']}"
        duration = seconds(each.spec.get("duration", "2160h"))
        if seconds(each.spec.get("renewBefore", "0h")) >= duration:
            yield f"{each}: renewBefore is not less than duration"
        if not each.spec.get("isCA"):
            yield from (f"{each}: {line}" for line in _certificate_mistakes(each, all_))


def _certificate_mistakes(certificate: Object, all_: Manifests) -> Lines:
    if "server auth" not in certificate.spec.get("usages", []):
        yield "usages must have server auth"
    key = certificate.spec.get("privateKey", {})
    if (key.get("algorithm"), key.get("size")) not in {("ECDSA", 256), ("ECDSA", 384)}:
        yield "privateKey must be ECDSA of size 256 or 384"
    for service in all_.of("Service"):
        name = f"{service.name}.{service.data['metadata'].get('namespace')}.svc"
        for each in (name, f"{name}.cluster.local"):
            if each not in certificate.spec.get("dnsNames", []):
                yield f"dnsNames lacks {each}"
    for workload in all_.of("Deployment"):
        found = source(workload.pod, server.variables(workload).get("CONTACTS_CERTIFICATE", ""))
        if not found or found.name != certificate.spec["secretName"]:
            yield f"the servers do not read its Secret {certificate.spec['secretName']}"


def monitoring(all_: Manifests) -> Lines:
    """Prometheus finds the metrics, under the name that the alerts ask for."""
    for each in all_.of("PodMonitor"):
        chosen = all_.selected(each.spec["selector"])
        for endpoint in each.spec["podMetricsEndpoints"]:
            port, path = endpoint.get("port"), endpoint.get("path", "/metrics")
            for workload in chosen:
                if _port(workload, port) != server.port(workload, "metrics_address"):
                    yield f"{each}: {port} is not the port of the metrics of {workload.name}"
            if path != "/metrics":
                yield f"{each}: the metrics are at /metrics, not {path}"
        for workload in chosen:
            if (job := workload.pod_labels.get(each.spec.get("jobLabel", ""))) != "contacts":
                yield f"{each}: jobLabel makes the job {job}, the alerts ask for contacts"


def routes(all_: Manifests) -> Lines:
    """The Gateway sends methods that there are to a Service that there is, by TLS."""
    policies = {
        target["name"] for each in all_.of("BackendTLSPolicy") for target in each.spec["targetRefs"]
    }
    for each in all_.of("GRPCRoute"):
        for rule in each.spec.get("rules", []):
            yield from (f"{each}: {line}" for line in _method_mistakes(rule))
            for backend in rule.get("backendRefs", []):
                service = all_.find("Service", backend["name"])
                if not service:
                    yield f"{each}: there is no Service {backend['name']}"
                    continue
                if backend.get("port") not in {port["port"] for port in service.spec["ports"]}:
                    yield f"{each}: the Service {service.name} has no port {backend.get('port')}"
                if service.name not in policies:
                    yield f"{each}: no BackendTLSPolicy is for {service.name}: the Gateway would send plaintext"
    yield from _backend_mistakes(all_)


def _method_mistakes(rule: Data) -> Lines:
    matches = rule.get("matches", [])
    if not matches:
        yield "a rule without matches takes all services, health and reflection among them"
    for match in matches:
        method = match.get("method", {})
        service = CONTRACTS.get(method.get("service"))
        if not service:
            yield f"there is no service {method.get('service')}"
        elif (name := method.get("method")) and name not in service.methods_by_name:
            yield f"the service {service.full_name} has no method {name}"


def _backend_mistakes(all_: Manifests) -> Lines:
    names = {name for each in all_.of("Certificate") for name in each.spec.get("dnsNames", [])}
    for each in all_.of("BackendTLSPolicy"):
        for target in each.spec["targetRefs"]:
            if not all_.find(target["kind"], target["name"]):
                yield f"{each}: there is no {target['kind']} {target['name']}"
        validation = each.spec["validation"]
        if validation["hostname"] not in names:
            yield f"{each}: no certificate is for {validation['hostname']}"
        for authority in validation.get("caCertificateRefs", []):
            if (authority["kind"], authority["name"]) not in _made(all_):
                yield f"{each}: nobody makes the {authority['kind']} {authority['name']}"


def security(all_: Manifests) -> Lines:
    """Pods can do no more than they must: Pod Security Standard restricted, and a little more."""
    for each in all_.workloads():
        pod, container = (
            each.pod.get("securityContext", {}),
            each.container.get("securityContext", {}),
        )
        wanted = {
            "securityContext.runAsNonRoot": (pod.get("runAsNonRoot"), True),
            "securityContext.seccompProfile": (
                pod.get("seccompProfile"),
                {"type": "RuntimeDefault"},
            ),
            "allowPrivilegeEscalation": (container.get("allowPrivilegeEscalation"), False),
            "readOnlyRootFilesystem": (container.get("readOnlyRootFilesystem"), True),
            "capabilities": (container.get("capabilities"), {"drop": ["ALL"]}),
            "automountServiceAccountToken": (each.pod.get("automountServiceAccountToken"), False),
            "enableServiceLinks": (each.pod.get("enableServiceLinks"), False),
        }
        for name, (found, value) in wanted.items():
            if found != value:
                yield f"{each}: {name} must be {str(value).lower() if isinstance(value, bool) else value}"
        if not pod.get("runAsUser"):
            yield f"{each}: securityContext.runAsUser must be a number other than 0"
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if each.pod.get(name):
                yield f"{each}: {name} must not be set"


def resources(all_: Manifests) -> Lines:
    """Pods ask for what they need, cannot take all memory, and can keep their uploads."""
    for each in all_.workloads():
        wanted = each.container.get("resources", {})
        requests, limits = wanted.get("requests", {}), wanted.get("limits", {})
        for name in {"cpu", "memory"} - requests.keys():
            yield f"{each}: resources.requests has no {name}"
        if "memory" not in limits:
            yield f"{each}: resources.limits has no memory"
        elif size(limits["memory"]) < size(requests.get("memory", "0")):
            yield f"{each}: the limit of memory is less than the request"
        if "cpu" in limits:
            yield f"{each}: a limit of cpu stops the server for most of each 0.1 s"
    for each in all_.of("Deployment"):
        volumes = {volume["name"]: volume for volume in each.pod.get("volumes", [])}
        mounts = {
            mount["mountPath"]: mount["name"] for mount in each.container.get("volumeMounts", [])
        }
        temporary = volumes.get(mounts.get("/tmp", ""), {}).get("emptyDir")  # noqa: S108 - the pod's.
        loaded = server.load(each, all_)
        if temporary is None:
            yield f"{each}: has no emptyDir at /tmp, where uploads are kept"
        elif loaded and size(temporary.get("sizeLimit", "0")) < loaded.max_uploads * MAX_BYTES:
            yield (
                f"{each}: the sizeLimit of /tmp is less than "
                f"{loaded.max_uploads} uploads of {MAX_BYTES >> 20} MiB"
            )


def images(all_: Manifests) -> Lines:
    """The migration and the servers are of one release, which the Job's name tells."""
    names = {each.container["image"] for each in all_.workloads()}
    for each in all_.workloads():
        if len(names) > 1:
            yield f"{each}: the images differ: {', '.join(sorted(names))}"
        _, _, tag = each.container["image"].rpartition("/")[2].partition(":")
        tag = tag.partition("@")[0]
        if tag in {"", "latest"}:
            yield f"{each}: the image {each.container['image']} names no release"
        elif each.kind == "Job" and not each.name.endswith("-" + tag.replace(".", "-")):
            yield f"{each}: its name must end with the release, {tag.replace('.', '-')}"


def roles(all_: Manifests) -> Lines:
    """The migration owns the tables; the servers do not."""
    secrets = {}
    for each in all_.workloads():
        path = server.variables(each).get("CONTACTS_DATABASE_FILE", "")
        secrets[each.kind] = source(each.pod, path)
    if secrets.get("Deployment") and secrets.get("Deployment") == secrets.get("Job"):
        for each in all_.of("Deployment"):
            yield f"{each}: has the database role of the migration, which may change tables"


RULES = (
    complete, namespaces, selectors, service_ports, settings, one_process, probes, times, references,
    autoscaling, disruption, network, certificates, monitoring, routes, security, resources, images,
    roles,
)  # fmt: skip
