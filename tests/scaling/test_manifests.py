"""The manifests of Kubernetes: they are right, and a wrong change is noticed."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
import urllib.request

import pytest
import yaml

from production import contacts_server
from production.development import programs
from production.development.programs import AbsentError
from production.serving.observability import metrics
from tests.conftest import ROOT, absent, wait_until

if not importlib.util.find_spec("kubernetes_validate") and os.environ.get("TOUR_REQUIRE") != "all":
    pytest.skip("absent: kubernetes-validate (make engines)", allow_module_level=True)

from scaling.deploy.kubernetes import check, manifests, schemas
from scaling.deploy.kubernetes.rules import growth

FOLDER = ROOT / "scaling/deploy/kubernetes"
SERVER = "deployment.yaml: Deployment contacts: "


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the manifests, to be changed."""
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(growth, "ADAPTER", copy / "metrics-adapter.yaml")
    return copy


def build(folder):
    """What kustomize prints."""
    try:
        kustomize = programs.find("kustomize")
    except AbsentError as error:
        absent(error)
    return subprocess.run([kustomize, "build", folder], capture_output=True, text=True)


def mistakes(folder):
    """What is wrong with the manifests in a folder."""
    built = build(folder)
    if built.returncode:
        return built.stderr.splitlines()
    try:
        return list(check.mistakes(manifests.parse(built.stdout)))
    except AbsentError as error:
        absent(error)


def test_the_manifests_have_no_mistake():
    assert mistakes(FOLDER) == []


CASES = [
    (
        "deployment.yaml",
        "containerPort: 50052",
        "containerport: 50052",
        "deployment.yaml: Deployment contacts: spec.template.spec.containers.0.ports.1: 'containerPort' is a required property",
    ),
    (
        "deployment.yaml",
        'value: "10"',
        "value: 10",
        "deployment.yaml: Deployment contacts: spec.template.spec.containers.0.env.9.value: 10 is not of type 'string', 'null'",
    ),
    (
        "deployment.yaml",
        "readOnlyRootFilesystem",
        "readOnlyRootFileSystem",
        "deployment.yaml: Deployment contacts: spec.template.spec.containers.0.securityContext: Additional properties are not allowed ('readOnlyRootFileSystem' was unexpected)",
    ),
    (
        "deployment.yaml",
        "  selector:\n    matchLabels:\n      app.kubernetes.io/name: contacts\n      app.kubernetes.io/component: server\n  template",
        "  template",
        "deployment.yaml: Deployment contacts: spec: 'selector' is a required property",
    ),
    (
        "deployment.yaml",
        "failureThreshold: 30",
        "failureTreshold: 30",
        "deployment.yaml: Deployment contacts: spec.template.spec.containers.0.startupProbe: Additional properties are not allowed ('failureTreshold' was unexpected)",
    ),
    (
        "deployment.yaml",
        "apps/v1",
        "apps/v2",
        "deployment.yaml: Deployment contacts: there is no kind Deployment in apps/v2",
    ),
    (
        "disruption-budget.yaml",
        "PodDisruptionBudget",
        "PodDisruptionBudgets",
        "disruption-budget.yaml: PodDisruptionBudgets contacts: there is no kind PodDisruptionBudgets in policy/v1",
    ),
    (
        "route.yaml",
        "kind: GRPCRoute",
        "kind: GRPCRoutes",
        "route.yaml: GRPCRoutes contacts: there is no kind GRPCRoutes in gateway.networking.k8s.io/v1",
    ),
    (
        "route.yaml",
        "gateway.networking.k8s.io/v1\nkind: GRPC",
        "gateway.networking.k8s.io/v1beta9\nkind: GRPC",
        "route.yaml: GRPCRoute contacts: there is no kind GRPCRoute in gateway.networking.k8s.io/v1beta9",
    ),
    (
        "route.yaml",
        "parentRefs",
        "parentRef",
        "route.yaml: GRPCRoute contacts: spec: Additional properties are not allowed ('parentRef' was unexpected)",
    ),
    (
        "route.yaml",
        "port: 50051",
        'port: "50051"',
        "route.yaml: GRPCRoute contacts: spec.rules.0.backendRefs.0.port: '50051' is not of type 'integer'",
    ),
    (
        "certificates.yaml",
        "rotationPolicy: Always",
        "rotationPolicy: Sometimes",
        "certificates.yaml: Certificate contacts: spec.privateKey.rotationPolicy: 'Sometimes' is not one of ['Never', 'Always']",
    ),
    (
        "certificates.yaml",
        "secretName: contacts-tls",
        "secret: contacts-tls",
        "certificates.yaml: Certificate contacts: spec: 'secretName' is a required property",
    ),
    (
        "pod-monitor.yaml",
        "podMetricsEndpoints",
        "podMetricsEndpoint",
        "pod-monitor.yaml: PodMonitor contacts: spec: Additional properties are not allowed ('podMetricsEndpoint' was unexpected)",
    ),
    (
        "pod-monitor.yaml",
        "interval: 15s",
        "interval: 15",
        "pod-monitor.yaml: PodMonitor contacts: spec.podMetricsEndpoints.0.interval: 15 is not of type 'string'",
    ),
    (
        "autoscaler.yaml",
        "autoscaling/v2",
        "autoscaling/v2beta2",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: there is no kind HorizontalPodAutoscaler in autoscaling/v2beta2",
    ),
    (
        "autoscaler.yaml",
        "maxReplicas: 6",
        "maxReplicas: six",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: spec.maxReplicas: 'six' is not of type 'integer'",
    ),
    (
        "kustomization.yaml",
        "  - disruption-budget.yaml\n",
        "",
        "kustomization.yaml: there is no PodDisruptionBudget",
    ),
    (
        "kustomization.yaml",
        "  - route.yaml\n",
        "  - routes.yaml\n",
        "Error: accumulating resources",
    ),
    (
        "kustomization.yaml",
        "configMapGenerator",
        "configMapGenerators",
        'Error: invalid Kustomization: json: unknown field "configMapGenerators"',
    ),
    (
        "kustomization.yaml",
        "namespace: contacts",
        "namespace: contact",
        "certificates.yaml: Certificate contacts: dnsNames lacks contacts.contact.svc",
    ),
    (
        "kustomization.yaml",
        "name: contacts-issuers",
        "name: contacts-issuer",
        "deployment.yaml: Deployment contacts: CONTACTS_ISSUERS: is not JSON: Expecting value: line 1 column 1 (char 0)",
    ),
    (
        "namespace.yaml",
        "restricted",
        "baseline",
        "namespace.yaml: Namespace contacts: pod-security.kubernetes.io/enforce is not restricted",
    ),
    (
        "services.yaml",
        "  selector:\n    app.kubernetes.io/name: contacts\n    app.kubernetes.io/component: server\n",
        "",
        "services.yaml: Service contacts-headless: has no selector",
    ),
    (
        "services.yaml",
        "component: server",
        "component: servers",
        "services.yaml: Service contacts-headless: its selector matches the labels of no pod",
    ),
    (
        "services.yaml",
        "    app.kubernetes.io/component: server\n",
        "",
        "services.yaml: Service contacts-headless: its selector also matches the pods of a Job",
    ),
    (
        "services.yaml",
        "targetPort: grpc",
        "targetPort: http",
        "services.yaml: Service contacts-headless: targetPort http is not the servers' port for calls",
    ),
    (
        "services.yaml",
        "targetPort: grpc",
        "targetPort: health",
        "services.yaml: Service contacts-headless: targetPort health is not the servers' port for calls",
    ),
    (
        "services.yaml",
        "targetPort: grpc",
        "targetPort: 50053",
        "services.yaml: Service contacts-headless: targetPort 50053 is not the servers' port for calls",
    ),
    (
        "services.yaml",
        "port: 50051",
        "port: 443",
        "services.yaml: Service contacts-headless: port 443 is not 50051, which clients are told",
    ),
    (
        "services.yaml",
        "  clusterIP: None\n",
        "",
        "services.yaml: there is no Service with clusterIP: None, for clients that balance",
    ),
    (
        "services.yaml",
        "name: contacts-headless",
        "name: contacts-pods",
        "certificates.yaml: Certificate contacts: dnsNames lacks contacts-pods.contacts.svc",
    ),
    ("services.yaml", "name: contacts-headless", "name: contacts", "Error: accumulating resources"),
    (
        "deployment.yaml",
        "        app.kubernetes.io/component: server\n    spec",
        "        app.kubernetes.io/component: backend\n    spec",
        "deployment.yaml: Deployment contacts: its selector matches the labels of no pod",
    ),
    (
        "deployment.yaml",
        "              app.kubernetes.io/component: server",
        "              app.kubernetes.io/component: backend",
        "deployment.yaml: Deployment contacts: topologySpreadConstraints: labelSelector is not its selector",
    ),
    (
        "disruption-budget.yaml",
        "component: server",
        "component: web",
        "disruption-budget.yaml: PodDisruptionBudget contacts: its selector matches the labels of no pod",
    ),
    (
        "disruption-budget.yaml",
        "maxUnavailable: 1",
        "maxUnavailable: 0",
        "disruption-budget.yaml: PodDisruptionBudget contacts: maxUnavailable is 0 of 3 servers, and must be 1 or more",
    ),
    (
        "disruption-budget.yaml",
        "maxUnavailable: 1",
        "maxUnavailable: 3",
        "disruption-budget.yaml: PodDisruptionBudget contacts: maxUnavailable is 3 of 3 servers, and must be 1 or more",
    ),
    (
        "disruption-budget.yaml",
        "    matchLabels:\n      app.kubernetes.io/name: contacts\n      app.kubernetes.io/component: server\n",
        "    matchLabels: {}\n",
        "disruption-budget.yaml: PodDisruptionBudget contacts: has no selector",
    ),
    (
        "deployment.yaml",
        "containerPort: 50052",
        "containerPort: 50053",
        "deployment.yaml: Deployment contacts: ports [9464, 50051, 50053] are declared, its settings listen on [9464, 50051, 50052]",
    ),
    (
        "deployment.yaml",
        "value: 0.0.0.0:9464",
        "value: 0.0.0.0:9465",
        "deployment.yaml: Deployment contacts: ports [9464, 50051, 50052] are declared, its settings listen on [9465, 50051, 50052]",
    ),
    (
        "deployment.yaml",
        "value: 0.0.0.0:50051",
        "value: 127.0.0.1:50051",
        "deployment.yaml: Deployment contacts: CONTACTS_ADDRESS is reached from inside its pod only",
    ),
    (
        "deployment.yaml",
        "            - name: CONTACTS_HEALTH_ADDRESS\n              value: 0.0.0.0:50052\n",
        "",
        "deployment.yaml: Deployment contacts: ports [9464, 50051, 50052] are declared, its settings listen on [9464, 50051]",
    ),
    (
        "deployment.yaml",
        "CONTACTS_ISSUERS_FILE",
        "CONTACTS_ISSUER_FILE",
        "deployment.yaml: Deployment contacts: CONTACTS_ISSUER_FILE: there is no such setting",
    ),
    (
        "deployment.yaml",
        "CONTACTS_GRACE",
        "CONTACTS_DRAIN_GRACE",
        "deployment.yaml: Deployment contacts: CONTACTS_DRAIN_GRACE: there is no such setting",
    ),
    (
        "deployment.yaml",
        'CONTACTS_CONNECTIONS\n              value: "8"',
        'CONTACTS_CONNECTIONS\n              value: "eight"',
        "deployment.yaml: Deployment contacts: CONTACTS_CONNECTIONS: Input should be a valid integer, unable to parse string as an integer",
    ),
    (
        "deployment.yaml",
        "production.contacts_server]",
        "production.lessons.tls]",
        "deployment.yaml: Deployment contacts: its command is 'python -m production.lessons.tls', not 'python -m production.contacts_server'",
    ),
    (
        "deployment.yaml",
        "production.contacts_server]",
        "production.contacts_server, --workers=4]",
        "deployment.yaml: Deployment contacts: its command is 'python -m production.contacts_server --workers=4', not 'python -m production.contacts_server'",
    ),
    (
        "deployment.yaml",
        'CONTACTS_CONNECTIONS\n              value: "8"',
        'CONTACTS_WORKERS\n              value: "4"',
        "deployment.yaml: Deployment contacts: CONTACTS_WORKERS is 4; add pods instead of processes",
    ),
    (
        "deployment.yaml",
        "port: 50052",
        "port: 50051",
        "deployment.yaml: Deployment contacts: startupProbe asks port 50051, which is not the health port",
    ),
    (
        "deployment.yaml",
        "readinessProbe:\n            grpc:\n              port: 50052\n              service: production.v1.ContactService",
        "readinessProbe:\n            grpc:\n              port: 50052\n              service: production.v1.ContactsService",
        "deployment.yaml: Deployment contacts: readinessProbe asks for the service 'production.v1.ContactsService' instead of 'production.v1.ContactService'",
    ),
    (
        "deployment.yaml",
        'service: ""',
        "service: liveness",
        "deployment.yaml: Deployment contacts: livenessProbe asks for the service 'liveness' instead of ''",
    ),
    (
        "deployment.yaml",
        'livenessProbe:\n            grpc:\n              port: 50052\n              service: ""',
        "livenessProbe:\n            tcpSocket:\n              port: 50052",
        "deployment.yaml: Deployment contacts: has no livenessProbe by grpc",
    ),
    (
        "deployment.yaml",
        "failureThreshold: 4",
        "failureThreshold: 3",
        "deployment.yaml: Deployment contacts: livenessProbe gives up after 30 s, and a drain may take 30 s",
    ),
    (
        "deployment.yaml",
        "terminationGracePeriodSeconds: 30",
        "terminationGracePeriodSeconds: 25",
        "deployment.yaml: Deployment contacts: terminationGracePeriodSeconds is 25, but a drain may take 25 s: DRAIN_PAUSE 10, GRACE 10 and 5",
    ),
    (
        "deployment.yaml",
        'GRACE\n              value: "10"',
        'GRACE\n              value: "60"',
        "deployment.yaml: Deployment contacts: terminationGracePeriodSeconds is 30, but a drain may take 75 s: DRAIN_PAUSE 10, GRACE 60 and 5",
    ),
    (
        "deployment.yaml",
        'DRAIN_PAUSE\n              value: "10"',
        'DRAIN_PAUSE\n              value: "1"',
        "deployment.yaml: Deployment contacts: CONTACTS_DRAIN_PAUSE is 1, and it takes 10 s until a Service has forgotten a pod",
    ),
    (
        "deployment.yaml",
        "minReadySeconds: 35",
        "minReadySeconds: 5",
        "deployment.yaml: Deployment contacts: minReadySeconds is 5, and clients resolve every 30 s",
    ),
    (
        "deployment.yaml",
        "maxUnavailable: 0",
        "maxUnavailable: 1",
        "deployment.yaml: Deployment contacts: maxUnavailable is not 0: servers would end before new ones are ready",
    ),
    (
        "deployment.yaml",
        "secretName: contacts-tls",
        "secretName: contacts-cert",
        "deployment.yaml: Deployment contacts: nobody makes the Secret contacts-cert",
    ),
    (
        "deployment.yaml",
        "name: contacts-issuers",
        "name: contact-issuers",
        "deployment.yaml: Deployment contacts: CONTACTS_ISSUERS: is not JSON: Expecting value: line 1 column 1 (char 0)",
    ),
    (
        "deployment.yaml",
        "certificate/tls.crt",
        "certificate/server.pem",
        "deployment.yaml: Deployment contacts: CONTACTS_CERTIFICATE: the Secret contacts-tls has no key server.pem",
    ),
    (
        "deployment.yaml",
        "/run/contacts/log/secret",
        "/run/contacts/logs/secret",
        "deployment.yaml: Deployment contacts: CONTACTS_LOG_SECRET_FILE: no volume brings /run/contacts/logs/secret",
    ),
    (
        "deployment.yaml",
        "            - name: log\n              mountPath",
        "            - name: logs\n              mountPath",
        "deployment.yaml: Deployment contacts: there is no volume logs",
    ),
    (
        "deployment.yaml",
        "mountPath: /run/contacts/certificate",
        "mountPath: /run/contacts/certificate\n              subPath: tls",
        "deployment.yaml: Deployment contacts: the volume certificate is mounted by subPath, and so would never change",
    ),
    (
        "deployment.yaml",
        "defaultMode: 0440",
        "defaultMode: 0444",
        "deployment.yaml: Deployment contacts: others can read the volume certificate: set its defaultMode to 0440",
    ),
    (
        "deployment.yaml",
        "serviceAccountName: contacts",
        "serviceAccountName: default",
        "deployment.yaml: Deployment contacts: there is no ServiceAccount default",
    ),
    (
        "deployment.yaml",
        "secretName: contacts-db-server",
        "secretName: contacts-db-app",
        "deployment.yaml: Deployment contacts: has the database role of the migration, which may change tables",
    ),
    (
        "issuers.json",
        '"contacts.write"',
        '"contacts.admin"',
        "deployment.yaml: Deployment contacts: CONTACTS_ISSUERS: there is no scope contacts.admin",
    ),
    (
        "issuers.json",
        '"audience"',
        '"audiance"',
        "deployment.yaml: Deployment contacts: CONTACTS_ISSUERS: 0.audience: Field required",
    ),
    (
        "issuers.json",
        ',\n    "scope',
        '\n    "scope',
        "deployment.yaml: Deployment contacts: CONTACTS_ISSUERS: is not JSON: Expecting ',' delimiter: line 8 column 5 (char 257)",
    ),
    (
        "autoscaler.yaml",
        "name: contacts\n  minReplicas",
        "name: contacts-server\n  minReplicas",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: there is no Deployment contacts-server to scale",
    ),
    (
        "autoscaler.yaml",
        "contacts_calls_in_flight",
        "contacts_calls",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: metrics-adapter.yaml has no metric contacts_calls",
    ),
    (
        "autoscaler.yaml",
        'averageValue: "6"',
        'averageValue: "60"',
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: averageValue is 60; from 8 on, calls wait for a database connection",
    ),
    (
        "autoscaler.yaml",
        "maxReplicas: 6",
        "maxReplicas: 12",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: 12 pods may take 192 database connections during a rollout, the database has 97",
    ),
    (
        "autoscaler.yaml",
        "minReplicas: 3",
        "minReplicas: 1",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: minReplicas is 1, and must be 2 to 6",
    ),
    (
        "metrics-adapter.yaml",
        "as: contacts_calls_in_flight",
        "as: contacts_calls",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: metrics-adapter.yaml has no metric contacts_calls_in_flight",
    ),
    (
        "metrics-adapter.yaml",
        "contacts_admission_taken",
        "contacts_calls_taken",
        "metrics-adapter.yaml: seriesQuery: the servers have no metric contacts_calls_taken",
    ),
    (
        "metrics-adapter.yaml",
        'taken{kind="call",<<',
        "taken{<<",
        "metrics-adapter.yaml: metricsQuery counts watches, too",
    ),
    (
        "deployment.yaml",
        "  revisionHistoryLimit",
        "  replicas: 3\n  revisionHistoryLimit",
        "deployment.yaml: Deployment contacts: has replicas, and each apply would undo what HorizontalPodAutoscaler has set",
    ),
    (
        "network-policies.yaml",
        "- port: grpc",
        "- port: 50053",
        "network-policies.yaml: NetworkPolicy contacts-server: ingress: 50053 is not a port of its pods",
    ),
    (
        "network-policies.yaml",
        "- port: metrics",
        "- port: metric",
        "network-policies.yaml: NetworkPolicy contacts-server: ingress: metric is not a port of its pods",
    ),
    (
        "network-policies.yaml",
        '    - from:\n        - namespaceSelector:\n            matchLabels:\n              contacts.example.com/access: "true"\n      ports',
        "    - ports",
        "network-policies.yaml: NetworkPolicy contacts-server: ingress: a rule without `from` allows everybody",
    ),
    (
        "network-policies.yaml",
        "component: server",
        "component: web",
        "network-policies.yaml: NetworkPolicy contacts-server: its podSelector matches the labels of no pod",
    ),
    (
        "network-policies.yaml",
        "port: 5432",
        "port: 5433",
        "deployment.yaml: Deployment contacts: no NetworkPolicy allows it to reach TCP port 5432",
    ),
    (
        "network-policies.yaml",
        "cnpg.io/cluster: contacts-db",
        "cnpg.io/cluster: contacts",
        "deployment.yaml: Deployment contacts: no NetworkPolicy allows it to reach the pods of contacts-db",
    ),
    (
        "network-policies.yaml",
        "policyTypes: [Ingress, Egress]",
        "policyTypes: [Ingress]",
        "network-policies.yaml: NetworkPolicy default-deny: policyTypes must be Ingress and Egress",
    ),
    (
        "network-policies.yaml",
        "operator: DoesNotExist",
        "operator: Exists",
        "network-policies.yaml: NetworkPolicy default-deny: its podSelector matches the labels of no pod",
    ),
    (
        "network-policies.yaml",
        "port: 53\n",
        "port: 54\n",
        "deployment.yaml: Deployment contacts: no NetworkPolicy allows it to reach UDP port 53",
    ),
    (
        "certificates.yaml",
        "    - contacts-headless.contacts.svc\n",
        "",
        "certificates.yaml: Certificate contacts: dnsNames lacks contacts-headless.contacts.svc",
    ),
    (
        "certificates.yaml",
        "    kind: Issuer\n    name: contacts-authority\n",
        "    kind: Issuer\n    name: contacts-ca\n",
        "certificates.yaml: Certificate contacts: there is no Issuer contacts-ca",
    ),
    (
        "certificates.yaml",
        "  ca:\n    secretName: contacts-authority",
        "  ca:\n    secretName: contacts-ca",
        "certificates.yaml: Issuer contacts-authority: nobody makes the Secret contacts-ca",
    ),
    (
        "certificates.yaml",
        "renewBefore: 720h",
        "renewBefore: 7200h",
        "certificates.yaml: Certificate contacts: renewBefore is not less than duration",
    ),
    (
        "certificates.yaml",
        "usages: [server auth]",
        "usages: [client auth]",
        "certificates.yaml: Certificate contacts: usages must have server auth",
    ),
    (
        "certificates.yaml",
        "secretName: contacts-tls",
        "secretName: contacts-cert",
        "certificates.yaml: Certificate contacts: the servers do not read a certificate and key of its Secret contacts-cert",
    ),
    (
        "pod-monitor.yaml",
        "port: metrics",
        "port: grpc",
        "pod-monitor.yaml: PodMonitor contacts: grpc is not the servers' port for metrics",
    ),
    (
        "pod-monitor.yaml",
        "component: server",
        "component: web",
        "pod-monitor.yaml: PodMonitor contacts: its selector matches the labels of no pod",
    ),
    (
        "pod-monitor.yaml",
        "jobLabel: app.kubernetes.io/name",
        "jobLabel: app.kubernetes.io/component",
        "pod-monitor.yaml: PodMonitor contacts: jobLabel makes the job server, the alerts ask for contacts",
    ),
    (
        "route.yaml",
        "production.v2.ContactService",
        "production.v1.ContactsService",
        "route.yaml: GRPCRoute contacts: there is no service production.v1.ContactsService",
    ),
    (
        "route.yaml",
        "service: production.v1.ContactService",
        "service: production.v1.ContactService\n            method: PatchContact",
        "route.yaml: GRPCRoute contacts: the service production.v1.ContactService has no method PatchContact",
    ),
    (
        "route.yaml",
        "        - name: contacts\n          port",
        "        - name: contact\n          port",
        "route.yaml: GRPCRoute contacts: there is no Service contact",
    ),
    (
        "route.yaml",
        "port: 50051",
        "port: 50052",
        "route.yaml: GRPCRoute contacts: the Service contacts has no port 50052",
    ),
    (
        "route.yaml",
        "      kind: Service\n      name: contacts",
        "      kind: Service\n      name: contacts-headless",
        "route.yaml: GRPCRoute contacts: without a BackendTLSPolicy contacts would get plaintext",
    ),
    (
        "route.yaml",
        "hostname: contacts.contacts.svc",
        "hostname: contacts.example.com",
        "route.yaml: BackendTLSPolicy contacts: no certificate is for contacts.example.com",
    ),
    (
        "route.yaml",
        "        name: contacts-authority",
        "        name: contacts-ca",
        "route.yaml: BackendTLSPolicy contacts: nobody makes the ConfigMap contacts-ca",
    ),
    (
        "deployment.yaml",
        "runAsNonRoot: true",
        "runAsNonRoot: false",
        "deployment.yaml: Deployment contacts: runAsNonRoot must be true",
    ),
    (
        "deployment.yaml",
        "runAsUser: 65532",
        "runAsUser: 0",
        "deployment.yaml: Deployment contacts: runAsUser must be a number other than 0",
    ),
    (
        "deployment.yaml",
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        "deployment.yaml: Deployment contacts: readOnlyRootFilesystem must be true",
    ),
    (
        "deployment.yaml",
        "            capabilities:\n              drop: [ALL]\n",
        "",
        'deployment.yaml: Deployment contacts: capabilities must be {"drop": ["ALL"]}',
    ),
    (
        "deployment.yaml",
        "enableServiceLinks: false",
        "enableServiceLinks: true",
        "deployment.yaml: Deployment contacts: enableServiceLinks must be false",
    ),
    (
        "deployment.yaml",
        "      automountServiceAccountToken: false\n",
        "",
        "deployment.yaml: Deployment contacts: automountServiceAccountToken must be false",
    ),
    (
        "deployment.yaml",
        "      enableServiceLinks",
        "      hostNetwork: true\n      enableServiceLinks",
        "deployment.yaml: Deployment contacts: hostNetwork must be false",
    ),
    (
        "deployment.yaml",
        "            limits:\n              # No limit for the CPU: it would stop the server for most of each 0.1 s period.\n              memory: 384Mi\n",
        "",
        "deployment.yaml: Deployment contacts: resources.limits has no memory",
    ),
    (
        "deployment.yaml",
        "memory: 384Mi",
        "memory: 128Mi",
        "deployment.yaml: Deployment contacts: the limit of memory is less than the request",
    ),
    (
        "deployment.yaml",
        "sizeLimit: 320Mi",
        "sizeLimit: 64Mi",
        "deployment.yaml: Deployment contacts: the sizeLimit of /tmp is less than 8 uploads of 32 MiB",
    ),
    (
        "deployment.yaml",
        "mountPath: /tmp",
        "mountPath: /var/tmp",
        "deployment.yaml: Deployment contacts: has no emptyDir at /tmp, where uploads are kept",
    ),
    (
        "deployment.yaml",
        "contacts:1.0.0",
        "contacts:latest",
        "deployment.yaml: Deployment contacts: the images differ: contacts:1.0.0, contacts:latest",
    ),
    (
        "migration.yaml",
        "contacts:1.0.0",
        "contacts:1.1.0",
        "migration.yaml: Job contacts-migration-1-0-0: the images differ: contacts:1.0.0, contacts:1.1.0",
    ),
    (
        "migration.yaml",
        "contacts-migration-1-0-0",
        "contacts-migration",
        "migration.yaml: Job contacts-migration: its name must end with the release, 1-0-0",
    ),
    (
        "migration.yaml",
        "contacts_server, migrate]",
        "contacts_server, migrat]",
        "migration.yaml: Job contacts-migration-1-0-0: its command is 'python -m production.contacts_server migrat', not 'python -m production.contacts_server migrate'",
    ),
    (
        "migration.yaml",
        "secretName: contacts-db-app",
        "secretName: contacts-db-owner",
        "migration.yaml: Job contacts-migration-1-0-0: nobody makes the Secret contacts-db-owner",
    ),
    (
        "migration.yaml",
        "        app.kubernetes.io/component: migration",
        "        app.kubernetes.io/component: server",
        "services.yaml: Service contacts: its selector also matches the pods of a Job",
    ),
    (
        "migration.yaml",
        "restartPolicy: Never",
        "restartPolicy: Always",
        "migration.yaml: Job contacts-migration-1-0-0: restartPolicy must be Never or OnFailure",
    ),
    (
        "service-account.yaml",
        "name: contacts\nauto",
        "name: contact\nauto",
        "deployment.yaml: Deployment contacts: there is no ServiceAccount contacts",
    ),
    (
        "service-account.yaml",
        "name: system:service-account-issuer-discovery",
        "name: cluster-admin",
        "service-account.yaml: ClusterRoleBinding contacts-issuer-discovery: grants cluster-admin, only system:service-account-issuer-discovery is needed",
    ),
    (
        "service-account.yaml",
        "system:unauthenticated",
        "system:authenticated",
        "service-account.yaml: ClusterRoleBinding contacts-issuer-discovery: subjects must be system:unauthenticated, because the servers have no token",
    ),
    (
        "deployment.yaml",
        "            - name: CONTACTS_LOG_SECRET_FILE\n              value: /run/contacts/log/secret\n",
        "",
        "deployment.yaml: Deployment contacts: CONTACTS_LOG_SECRET_FILE is not set: each pod would write other pseudonyms",
    ),
    (
        "deployment.yaml",
        "CONTACTS_DATABASE_FILE\n              value: /run/contacts/database/uri",
        "CONTACTS_DATABASE\n              value: postgresql://contacts_server:secret@contacts-db-rw/contacts",
        "deployment.yaml: Deployment contacts: CONTACTS_DATABASE is a secret: name a file of a Secret in CONTACTS_DATABASE_FILE",
    ),
    (
        "deployment.yaml",
        'CONTACTS_CONNECTIONS\n              value: "8"',
        "CONTACTS_PLAINTEXT\n              value: sidecar",
        "deployment.yaml: Deployment contacts: CONTACTS_PLAINTEXT is set, and all who call it use TLS",
    ),
    (
        "deployment.yaml",
        "            - name: SSL_CERT_FILE\n              value: /run/contacts/cluster/ca.crt\n",
        "",
        "deployment.yaml: Deployment contacts: SSL_CERT_FILE is not set: the server would not trust the API server, which has the issuer's keys",
    ),
    (
        "deployment.yaml",
        'CONNECTION_AGE\n              value: "300"',
        'CONNECTION_AGE\n              value: "1800"',
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: stabilizationWindowSeconds is 300, and connections stay where they are for 1800 s",
    ),
    (
        "deployment.yaml",
        "        # The group that may read the files of Secrets.\n        fsGroup: 65532\n",
        "",
        "deployment.yaml: Deployment contacts: without fsGroup it cannot read the files of Secrets",
    ),
    (
        "services.yaml",
        "    app.kubernetes.io/name: contacts\n    app.kubernetes.io/component: server\n  ports",
        "    app.kubernetes.io/component: server\n  ports",
        "services.yaml: Service contacts-headless: its selector is not that of the Deployment",
    ),
    (
        "services.yaml",
        "  clusterIP: None\n",
        "  clusterIP: None\n  publishNotReadyAddresses: true\n",
        "services.yaml: Service contacts-headless: publishNotReadyAddresses gives clients the addresses of unready pods",
    ),
    (
        "services.yaml",
        "for all its calls.\napiVersion: v1\nkind: Service\nmetadata:\n  name: contacts\n  labels:\n    app.kubernetes.io/name: contacts\nspec:",
        "for all its calls.\napiVersion: v1\nkind: Service\nmetadata:\n  name: contacts\n  labels:\n    app.kubernetes.io/name: contacts\nspec:\n  type: LoadBalancer",
        "services.yaml: Service contacts: type LoadBalancer is reached from outside the cluster",
    ),
    (
        "network-policies.yaml",
        "          podSelector:\n            matchLabels:\n              k8s-app: kube-dns\n",
        "",
        "network-policies.yaml: NetworkPolicy contacts-server: egress: names must be resolved by the pods k8s-app: kube-dns of kube-system only",
    ),
    (
        "network-policies.yaml",
        "- port: metrics",
        "- port: metrics\n        - port: health",
        "deployment.yaml: Deployment contacts: a NetworkPolicy allows others than the kubelet to reach its port health",
    ),
    (
        "route.yaml",
        "  hostnames: [contacts.example.com]\n",
        "",
        "route.yaml: GRPCRoute contacts: has no hostnames",
    ),
    (
        "autoscaler.yaml",
        "stabilizationWindowSeconds: 300",
        "stabilizationWindowSeconds: 60",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: stabilizationWindowSeconds is 60, and connections stay where they are for 300 s",
    ),
    (
        "autoscaler.yaml",
        'averageValue: "6"',
        'averageValue: "6k"',
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: averageValue is 6000; from 8 on, calls wait for a database connection",
    ),
    (
        "deployment.yaml",
        "maxSurge: 1",
        "maxSurge: 0",
        "deployment.yaml: Deployment contacts: maxSurge is 0, so a rollout could not start a new server",
    ),
    (
        "deployment.yaml",
        "minReadySeconds: 35",
        "minReadySeconds: 35\n  paused: true",
        "deployment.yaml: Deployment contacts: is paused, so a change would not be rolled out",
    ),
    (
        "deployment.yaml",
        "minReadySeconds: 35",
        "minReadySeconds: 35\n  progressDeadlineSeconds: 35",
        "deployment.yaml: Deployment contacts: progressDeadlineSeconds is 35, and must be more than 35",
    ),
    (
        "deployment.yaml",
        "          resources:\n",
        "          lifecycle: {preStop: {sleep: {seconds: 60}}}\n          resources:\n",
        "deployment.yaml: Deployment contacts: a preStop hook takes its time from the drain: set CONTACTS_DRAIN_PAUSE",
    ),
    (
        "deployment.yaml",
        "failureThreshold: 4",
        "failureThreshold: 4\n            terminationGracePeriodSeconds: 1",
        "deployment.yaml: Deployment contacts: livenessProbe has a terminationGracePeriodSeconds of its own",
    ),
    (
        "deployment.yaml",
        "      enableServiceLinks",
        "      shareProcessNamespace: true\n      enableServiceLinks",
        "deployment.yaml: Deployment contacts: shareProcessNamespace must be false",
    ),
    (
        "deployment.yaml",
        "defaultMode: 0440",
        "defaultMode: 0400",
        "deployment.yaml: Deployment contacts: its group cannot read the volume certificate: set its defaultMode to 0440",
    ),
    (
        "deployment.yaml",
        "secretName: contacts-log",
        "secretName: contacts-log\n            optional: true",
        "deployment.yaml: Deployment contacts: the volume log is optional, and the server cannot start without it",
    ),
    (
        "deployment.yaml",
        "          env:\n",
        "          envFrom: [{secretRef: {name: contacts-log}}]\n          env:\n",
        "deployment.yaml: Deployment contacts: envFrom sets variables that cannot be checked: name each of them in env",
    ),
    (
        "migration.yaml",
        "  backoffLimit: 6",
        "  suspend: true\n  backoffLimit: 6",
        "migration.yaml: Job contacts-migration-1-0-0: is suspended, so the migration would not run",
    ),
    (
        "autoscaler.yaml",
        "    scaleDown:\n",
        "    scaleUp:\n      selectPolicy: Disabled\n    scaleDown:\n",
        "autoscaler.yaml: HorizontalPodAutoscaler contacts: scaleUp is disabled",
    ),
    (
        "pod-monitor.yaml",
        "interval: 15s",
        "interval: 15s\n      scheme: https",
        "pod-monitor.yaml: PodMonitor contacts: the metrics are served by http, not by https",
    ),
    (
        "pod-monitor.yaml",
        "  selector:\n",
        "  namespaceSelector: {matchNames: [shop]}\n  selector:\n",
        "pod-monitor.yaml: PodMonitor contacts: namespaceSelector leaves out contacts, where the servers are",
    ),
    (
        "route.yaml",
        "          port: 50051",
        "          port: 50051\n          namespace: shop",
        "route.yaml: GRPCRoute contacts: there is no Service contacts in shop",
    ),
    (
        "route.yaml",
        "          port: 50051",
        "          port: 50051\n          kind: ConfigMap",
        "route.yaml: GRPCRoute contacts: sends calls to a ConfigMap",
    ),
    (
        "route.yaml",
        "          port: 50051",
        "          port: 50051\n          weight: 0",
        "route.yaml: GRPCRoute contacts: weight is 0, so contacts gets no calls",
    ),
    (
        "route.yaml",
        "service: production.v1.ContactService",
        "service: production.v1.ContactService\n            type: RegularExpression",
        "route.yaml: GRPCRoute contacts: production.v1.ContactService is matched as RegularExpression, not exactly",
    ),
    (
        "route.yaml",
        "  parentRefs:\n    - name: public\n      namespace: gateway\n",
        "  parentRefs: []\n",
        "route.yaml: GRPCRoute contacts: has no parentRefs",
    ),
    (
        "route.yaml",
        '    - group: ""\n      kind: Service',
        "    - group: apps\n      kind: Service",
        "route.yaml: BackendTLSPolicy contacts: there is no Service contacts",
    ),
    (
        "services.yaml",
        "      port: 50051",
        "      port: 50051\n      protocol: UDP",
        "services.yaml: Service contacts-headless: gRPC needs the protocol TCP",
    ),
    (
        "services.yaml",
        "  clusterIP: None\n",
        "  clusterIP: None\n  externalIPs: [192.0.2.1]\n",
        "services.yaml: Service contacts-headless: externalIPs are reached from outside the cluster",
    ),
    (
        "certificates.yaml",
        "  usages: [server auth]",
        "  isCA: true\n  usages: [server auth]",
        "certificates.yaml: there is no Certificate for the servers: all have isCA",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "old", "new", "message"), CASES, ids=range(len(CASES)))
def test_a_wrong_change_is_noticed(folder, file, old, new, message):
    """The message names the file, the object and the mistake."""
    text = (folder / file).read_text()
    assert text.count(old) >= 1
    (folder / file).write_text(text.replace(old, new, 1))

    found = mistakes(folder)

    assert [line for line in found if line.startswith(message)], found


def test_the_command_prints_each_mistake_and_fails():
    text = build(FOLDER).stdout.replace("port: 50052", "port: 50053")

    done = subprocess.run(
        [sys.executable, "-m", "scaling.deploy.kubernetes.check"],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"error: {SERVER}{probe} asks port 50053, which is not the health port"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "the manifests are not YAML"),
        ("a: b", "a document is not an object of Kubernetes: it has no apiVersion or kind"),
        ("{apiVersion: v1, kind: Pod}", "an object of kind Pod has no name"),
    ],
)
def test_what_is_no_manifest_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        manifests.parse(text)


def test_a_module_with_another_content_is_refused():
    module = schemas.MODULES["gateway.networking.k8s.io"]._replace(sum="h1:other")
    try:
        programs.find("go")
    except AbsentError as error:
        absent(error)

    with pytest.raises(AbsentError, match="its content is not the expected one"):
        schemas.download(module)


def test_the_adapters_rule_gives_the_calls_in_flight(run_async, tmp_path):
    """A real Prometheus scrapes our metrics, and answers what prometheus-adapter would ask."""
    program = shutil.which("prometheus") or absent("Prometheus (apt install prometheus)")
    [rule] = yaml.safe_load((FOLDER / "metrics-adapter.yaml").read_text())["rules"]
    contacts_server.ADMISSION.taken.labels("call").set(3)
    contacts_server.ADMISSION.taken.labels("watch").set(100)
    runner = run_async(metrics.serve("127.0.0.1:0"))
    target = {
        "targets": [f"127.0.0.1:{runner.addresses[0][1]}"],
        "labels": {"namespace": "contacts", "pod": "contacts-1"},
    }
    scraping = {"job_name": "contacts", "scrape_interval": "250ms", "static_configs": [target]}
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scraping]}))
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
    query = query.replace("<<.LabelMatchers>>", 'namespace="contacts",pod=~"contacts-1"')
    command = [
        program,
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        "--web.listen-address=127.0.0.1:0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = ""
            while not ("Server is ready" in said and (url := LISTENING.search(said))):
                line = process.stderr.readline()
                assert line, f"Prometheus has ended: {said}"
                said += line
            threading.Thread(
                target=process.stderr.read
            ).start()  # It may log more than a pipe holds.
            [series] = wait_until(lambda: ask(url[1], rule["seriesQuery"]))
            [answer] = wait_until(lambda: ask(url[1], query))
        finally:
            process.kill()
            run_async(runner.cleanup())
            contacts_server.ADMISSION.taken.labels("call").set(0)
            contacts_server.ADMISSION.taken.labels("watch").set(0)

    assert set(rule["resources"]["overrides"]) <= series["metric"].keys()
    assert (answer["metric"], answer["value"][1]) == ({"pod": "contacts-1"}, "3")


LISTENING = re.compile(r'msg="Listening on" address=(\S+)')


def ask(address, query):
    """The result of a query."""
    parameters = urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{parameters}") as response:
        return json.load(response)["data"]["result"]
