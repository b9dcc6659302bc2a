"""gRPC ignores channel options that it does not know, so a mistyped one would protect nobody."""

import re
from pathlib import Path

from grpc._cython import cygrpc

from tests.conftest import ROOT

CHAPTERS = [path.parent for path in ROOT.glob("*/__init__.py")]


def test_every_channel_option_that_we_name_is_known_to_grpc():
    files = [file for chapter in CHAPTERS for file in chapter.rglob("*.py")]
    named = {
        name
        for file in files
        for name in re.findall(r'"(grpc\.[a-z\d.]+_[a-z\d_.]+)"', file.read_text())
    }
    core = Path(cygrpc.__file__).read_bytes()

    assert "grpc.so_reuseport" in named
    assert sorted(name for name in named if name.encode() not in core) == []
