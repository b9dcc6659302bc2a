"""The page of options lists all that the pinned grpc-gateway has, and which of them we set."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from production.development import programs
from tests.conftest import ROOT, absent

GATEWAY = ROOT / "rest_gateway" / "gateway"
PAGE = ROOT / "rest_gateway" / "options" / "README.md"
MODULE = "github.com/grpc-ecosystem/grpc-gateway/v2"
OPTION = r"^func (\w+)\(.*\) ServeMuxOption \{$"
FLAG = r'(?:flag\.\w+\(|StringArrayFlag\(flag\.CommandLine, )"([\w-]+)"'
PLUGINS = ["protoc-gen-grpc-gateway", "protoc-gen-openapiv2"]


@pytest.fixture(scope="module")
def source():
    """The folder of the pinned grpc-gateway, which a build of the gateway has downloaded."""
    try:
        command = [programs.find("go"), "list", "-m", "-f", "{{.Dir}}", MODULE]
    except programs.AbsentError as error:
        absent(error)
    done = subprocess.run(command, cwd=GATEWAY, capture_output=True, text=True, timeout=60)
    if not (folder := done.stdout.strip()):
        absent("the source of grpc-gateway (make gateway)")
    return Path(folder)


def table(title):
    """The table below a heading: the name of each option, and whether we set it."""
    section = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \| .+ \|$", section, re.M)
    assert [name for name, _ in rows] == sorted(name for name, _ in rows)
    return {name: here != "–" for name, here in rows}


def test_every_option_of_the_mux_is_explained(source):
    code = "\n".join(path.read_text() for path in (source / "runtime").glob("*.go"))
    ours = "\n".join(path.read_text() for path in GATEWAY.glob("*.go"))

    found = {name: f"runtime.{name}(" in ours for name in re.findall(OPTION, code, re.M)}
    assert len(found) > 20
    assert table("Options of the ServeMux") == found


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_flag_of_a_plugin_is_explained(source, plugin):
    generated = yaml.safe_load((GATEWAY / "buf.gen.yaml").read_text())["plugins"]
    (opt,) = (each["opt"] for each in generated if each["local"] == plugin)
    ours = {each.partition("=")[0] for each in opt}

    flags = re.findall(FLAG, (source / plugin / "main.go").read_text())
    assert len(flags) > 10
    assert table(f"Flags of {plugin}") == {name: name in ours for name in flags}


def test_the_page_names_the_pinned_version():
    (version,) = re.findall(rf"{MODULE} v(\S+)$", (GATEWAY / "go.mod").read_text(), re.M)

    assert set(re.findall(r"grpc-gateway (\d+\.\d+\.\d+)", PAGE.read_text())) == {version}
