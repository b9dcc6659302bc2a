"""The manifests of Kubernetes: they are right, and a wrong change is noticed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from production.development import programs
from production.development.programs import AbsentError
from tests.conftest import ROOT, absent

try:
    from scaling.deploy.kubernetes import check, manifests, rules, schemas
except ImportError:  # Of kubernetes_validate.
    absent("kubernetes-validate (make engines)")

FOLDER = ROOT / "scaling/deploy/kubernetes"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the manifests, to be changed."""
    copy = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(rules, "FOLDER", copy)
    return copy


def build(folder):
    """What kustomize prints; its error if it refuses."""
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
    except ValueError as error:
        return [str(error)]


def test_the_manifests_have_no_mistake():
    assert mistakes(FOLDER) == []


SERVER = "deployment.yaml: Deployment contacts: "
JOB = "migration.yaml: Job contacts-migration-1-0-0: "
HEADLESS = "services.yaml: Service contacts-headless: "
LABELS = """\
      app.kubernetes.io/name: contacts
      app.kubernetes.io/component: server
"""
CASES = [
    # A schema sees these: a field that there is not, a type, a value, a kind.
    (
        "deployment.yaml",
        "containerPort: 50052",
        "containerport: 50052",
        SERVER + "spec.template.spec.containers.0.ports.1: 'containerPort' is a required property",
    ),
    (
        "deployment.yaml",
        'value: "10"',
        "value: 10",
        SERVER + "spec.template.spec.containers.0.env.9.value: 10 is not of type 'string', 'null'",
    ),
    (
        "deployment.yaml",
        "readOnlyRootFilesystem",
        "readOnlyRootFileSystem",
        SERVER + "spec.template.spec.containers.0.securityContext: Additional properties are not "
        "allowed ('readOnlyRootFileSystem' was unexpected)",
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), CASES, ids=[case[3] for case in CASES])
def test_a_wrong_change_is_noticed(folder, file, old, new, message):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))

    assert message in mistakes(folder)
