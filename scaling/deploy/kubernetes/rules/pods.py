"""Rules for pods: the server would start in them, is probed, drains, and can do no harm."""

import json

from production import contacts_server
from production.contacts.import_buffer import MAX_BYTES
from scaling.deploy.kubernetes import server
from scaling.deploy.kubernetes.manifests import Lines, Manifests, Object, quantity, source

MARGIN_S = 5
"""Seconds that the server may take to stop after its drain."""
FORGOTTEN_S = 10
"""Seconds until all nodes and proxies of a cluster know that a pod is leaving."""
RESOLUTION_S = 30
"""Seconds after which a gRPC client resolves a name again, at the earliest."""
PROBES = {
    "startupProbe": contacts_server.SERVICE,
    "readinessProbe": contacts_server.SERVICE,
    "livenessProbe": "",
}
"""The service that each probe asks for; "" is the server as a whole."""
OWN_FILE = "it would use an SQLite file of its own"
FILES = {
    "Job": {"CONTACTS_DATABASE_FILE": OWN_FILE},
    "Deployment": {
        "CONTACTS_DATABASE_FILE": OWN_FILE,
        "CONTACTS_LOG_SECRET_FILE": "each pod would write other pseudonyms",
        "CONTACTS_CERTIFICATE": "clients use TLS",
        "CONTACTS_KEY": "clients use TLS",
        "SSL_CERT_FILE": "the server would not trust the API server, which has the issuer's keys",
    },
}
"""The variables that a workload needs, and what happens without them."""
REACHED = ("address", "health_address", "metrics_address")
VOLUMES = {"configMap", "emptyDir", "secret"}


def settings(all_: Manifests) -> Lines:
    """Checks that the server would start with its environment, and listens where it is declared."""
    for each in all_.workloads():
        yield from (f"{each}: {mistake}" for mistake in server.mistakes(each, all_))
        yield from (f"{each}: {mistake}" for mistake in _secret_mistakes(each))
    for each in all_.of("Deployment"):
        declared, listening = sorted(each.ports().values()), sorted(server.ports(each))
        if listening != declared:
            yield f"{each}: ports {declared} are declared, its settings listen on {listening}"
        for name in REACHED:
            address = server.host(each, name)
            if not address:
                yield f"{each}: CONTACTS_{name.upper()} is not set"
            elif address.is_loopback:
                yield f"{each}: CONTACTS_{name.upper()} is reached from inside its pod only"
        loaded = server.load(each, all_)
        if loaded and loaded.workers > 1:
            yield f"{each}: CONTACTS_WORKERS is {loaded.workers}; add pods instead of processes"
        if loaded and loaded.plaintext:
            yield f"{each}: CONTACTS_PLAINTEXT is set, and all who call it use TLS"


def _secret_mistakes(workload: Object) -> Lines:
    variables = server.variables(workload)
    for name in ("CONTACTS_DATABASE", "CONTACTS_LOG_SECRET"):
        if name in variables:
            yield f"{name} is a secret: name a file of a Secret in {name}_FILE"
    if "envFrom" in workload.container:
        yield "envFrom sets variables that cannot be checked: name each of them in env"
    for name, otherwise in FILES[workload.kind].items():
        if name not in variables:
            yield f"{name} is not set: {otherwise}"


def probes(all_: Manifests) -> Lines:
    """Checks that probes ask the health port for what it knows, and that liveness is patient."""
    for each in all_.of("Deployment"):
        for name, service in PROBES.items():
            probe = each.container.get(name, {}).get("grpc")
            if not probe:
                yield f"{each}: has no {name} by grpc"
            elif probe["port"] != server.port(each, "health_address"):
                yield f"{each}: {name} asks port {probe['port']}, which is not the health port"
            elif (asked := probe.get("service", "")) != service:
                yield f"{each}: {name} asks for the service {asked!r} instead of {service!r}"
            if "terminationGracePeriodSeconds" in each.container.get(name, {}):
                yield f"{each}: {name} has a terminationGracePeriodSeconds of its own"
        liveness = each.container.get("livenessProbe", {})
        patience = liveness.get("periodSeconds", 10) * liveness.get("failureThreshold", 3)
        if patience <= (drain := _grace(each)):
            yield (
                f"{each}: livenessProbe gives up after {patience} s, and a drain may take {drain} s"
            )


def _grace(deployment: Object) -> int:
    return int(deployment.pod.get("terminationGracePeriodSeconds", 30))


def times(all_: Manifests) -> Lines:
    """Checks that a pod has the time to drain, and that a rollout waits for clients."""
    for each in all_.of("Deployment"):
        if loaded := server.load(each, all_):
            pause, grace = loaded.drain_pause, loaded.grace
            if _grace(each) <= (drain := pause + grace + MARGIN_S):
                yield (
                    f"{each}: terminationGracePeriodSeconds is {_grace(each)}, but a drain may "
                    f"take {drain:g} s: DRAIN_PAUSE {pause:g}, GRACE {grace:g} and {MARGIN_S}"
                )
            if pause < FORGOTTEN_S:
                yield (
                    f"{each}: CONTACTS_DRAIN_PAUSE is {pause:g}, and it takes {FORGOTTEN_S} s "
                    "until a Service has forgotten a pod"
                )
        if (ready := each.spec.get("minReadySeconds", 0)) <= RESOLUTION_S:
            yield f"{each}: minReadySeconds is {ready}, and clients resolve every {RESOLUTION_S} s"
        rolling = each.spec.get("strategy", {}).get("rollingUpdate") or {}
        if rolling.get("maxUnavailable") != 0:
            yield f"{each}: maxUnavailable is not 0: servers would end before new ones are ready"
        if rolling.get("maxSurge", 1) in {0, "0%"}:
            yield f"{each}: maxSurge is 0, so a rollout could not start a new server"
        if each.spec.get("paused"):
            yield f"{each}: is paused, so a change would not be rolled out"
        if (limit := each.spec.get("progressDeadlineSeconds", 600)) <= ready:
            yield f"{each}: progressDeadlineSeconds is {limit}, and must be more than {ready}"
        if "preStop" in each.container.get("lifecycle", {}):
            yield f"{each}: a preStop hook takes its time from the drain: set CONTACTS_DRAIN_PAUSE"


def references(all_: Manifests) -> Lines:
    """Checks that whatever a pod names is there: volumes, files, Secrets, its account."""
    made = all_.available()
    for each in all_.workloads():
        yield from (f"{each}: {line}" for line in _mount_mistakes(each))
        yield from (f"{each}: {line}" for line in _volume_mistakes(each, made))
        for name, path in server.files(each).items():
            found = source(each.pod, path)
            if not found:
                yield f"{each}: {name}: no volume brings {path}"
            elif found.key not in made.get((found.kind, found.name), {found.key}):
                yield f"{each}: {name}: the {found.kind} {found.name} has no key {found.key}"
        account = each.pod.get("serviceAccountName", "default")
        if not all_.find("ServiceAccount", account):
            yield f"{each}: there is no ServiceAccount {account}"


def _mount_mistakes(workload: Object) -> Lines:
    volumes = {each["name"] for each in workload.pod.get("volumes", [])}
    mounted = set()
    for mount in workload.container.get("volumeMounts", []):
        mounted.add(mount["name"])
        if mount["name"] not in volumes:
            yield f"there is no volume {mount['name']}"
        elif mount.get("subPath"):
            yield f"the volume {mount['name']} is mounted by subPath, and so would never change"
    for name in sorted(volumes - mounted):
        yield f"the volume {name} is not mounted"


def _volume_mistakes(workload: Object, made: dict[tuple[str, str], set[str]]) -> Lines:
    for volume in workload.pod.get("volumes", []):
        name, secret, config_map = volume["name"], volume.get("secret"), volume.get("configMap")
        if other := volume.keys() - VOLUMES - {"name"}:
            yield f"the volume {name} is a {min(other)}"
        if secret and ("Secret", secret["secretName"]) not in made:
            yield f"nobody makes the Secret {secret['secretName']}"
        if secret and secret.get("defaultMode", 0o644) & 0o007:
            yield f"others can read the volume {name}: set its defaultMode to 0440"
        if secret and not secret.get("defaultMode", 0o644) & 0o040:
            yield f"its group cannot read the volume {name}: set its defaultMode to 0440"
        if (secret or config_map or {}).get("optional"):
            yield f"the volume {name} is optional, and the server cannot start without it"
        if config_map and ("ConfigMap", config_map["name"]) not in made:
            yield f"nobody makes the ConfigMap {config_map['name']}"


def database_roles(all_: Manifests) -> Lines:
    """Checks that the servers do not have the role that owns the tables."""
    used = {
        source(each.pod, server.variables(each).get("CONTACTS_DATABASE_FILE", ""))
        for each in all_.of("Job")
    }
    for each in all_.of("Deployment"):
        found = source(each.pod, server.variables(each).get("CONTACTS_DATABASE_FILE", ""))
        if found and found in used:
            yield f"{each}: has the database role of the migration, which may change tables"


def security(all_: Manifests) -> Lines:
    """Checks the Pod Security Standard restricted, and a little more."""
    for each in all_.workloads():
        containers = (*each.pod.get("containers", []), *each.pod.get("initContainers", []))
        if len(containers) > 1:
            yield f"{each}: has several containers, and these rules check the first"
        context = each.pod.get("securityContext", {}) | each.container.get("securityContext", {})
        for name, found, wanted in (
            ("runAsNonRoot", context.get("runAsNonRoot"), True),
            ("seccompProfile", context.get("seccompProfile"), {"type": "RuntimeDefault"}),
            ("allowPrivilegeEscalation", context.get("allowPrivilegeEscalation"), False),
            ("readOnlyRootFilesystem", context.get("readOnlyRootFilesystem"), True),
            ("privileged", context.get("privileged", False), False),
            ("capabilities", context.get("capabilities"), {"drop": ["ALL"]}),
            ("automountServiceAccountToken", each.pod.get("automountServiceAccountToken"), False),
            ("enableServiceLinks", each.pod.get("enableServiceLinks"), False),
            ("hostNetwork", each.pod.get("hostNetwork", False), False),
            ("hostPID", each.pod.get("hostPID", False), False),
            ("hostIPC", each.pod.get("hostIPC", False), False),
            ("shareProcessNamespace", each.pod.get("shareProcessNamespace", False), False),
        ):
            if found != wanted:
                yield f"{each}: {name} must be {json.dumps(wanted)}"
        if not context.get("runAsUser"):
            yield f"{each}: runAsUser must be a number other than 0"
        if not context.get("fsGroup"):
            yield f"{each}: without fsGroup it cannot read the files of Secrets"
        if any("hostPort" in port for port in each.container.get("ports", [])):
            yield f"{each}: hostPort must not be set"


def resources(all_: Manifests) -> Lines:
    """Checks that pods ask for what they need, cannot take all memory, and can keep uploads."""
    for each in all_.workloads():
        wanted = each.container.get("resources", {})
        requests, limits = wanted.get("requests", {}), wanted.get("limits", {})
        for name in sorted({"cpu", "memory"} - requests.keys()):
            yield f"{each}: resources.requests has no {name}"
        if "memory" not in limits:
            yield f"{each}: resources.limits has no memory"
        elif quantity(limits["memory"]) < quantity(requests.get("memory", 0)):
            yield f"{each}: the limit of memory is less than the request"
        if "cpu" in limits:
            yield f"{each}: a limit of cpu stops the server for a part of each 0.1 s"
    for each in all_.of("Deployment"):
        loaded = server.load(each, all_)
        room = _room_at_tmp(each)
        if room is None:
            yield f"{each}: has no emptyDir at /tmp, where uploads are kept"
        elif loaded and room < loaded.max_uploads * MAX_BYTES:
            yield (
                f"{each}: the sizeLimit of /tmp is less than "
                f"{loaded.max_uploads} uploads of {MAX_BYTES >> 20} MiB"
            )


def _room_at_tmp(deployment: Object) -> float | None:
    """Returns the bytes that the pod may keep at /tmp, or None."""
    mounts = deployment.container.get("volumeMounts", [])
    names = {each["name"] for each in mounts if each["mountPath"] == "/tmp"}  # noqa: S108
    for volume in deployment.pod.get("volumes", []):
        if volume["name"] in names and "emptyDir" in volume:
            return quantity(volume["emptyDir"].get("sizeLimit", 0))
    return None


def releases(all_: Manifests) -> Lines:
    """Checks that the migration and the servers are of one release, which the Job's name has."""
    names = sorted({each.container.get("image", "") for each in all_.workloads()})
    for each in all_.workloads():
        if len(names) > 1:
            yield f"{each}: the images differ: {', '.join(names)}"
        image = each.container.get("image", "")
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if tag in {"", "latest"}:
            yield f"{each}: the image {image!r} names no release"
        elif each.kind == "Job" and not each.name.endswith("-" + tag.replace(".", "-")):
            yield f"{each}: its name must end with the release, {tag.replace('.', '-')}"
        if each.kind == "Job" and each.spec.get("suspend"):
            yield f"{each}: is suspended, so the migration would not run"
        if each.kind == "Job" and each.pod.get("restartPolicy") not in {"Never", "OnFailure"}:
            yield f"{each}: restartPolicy must be Never or OnFailure"


RULES = (settings, probes, times, references, database_roles, security, resources, releases)
