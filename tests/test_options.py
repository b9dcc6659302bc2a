"""gRPC ignores channel options that it does not know, so a mistyped one would protect nobody."""

import re
from pathlib import Path

from grpc._cython import cygrpc

from tests.conftest import ROOT
from tour import tree


def test_every_channel_option_that_we_name_is_known_to_grpc():
    named = {
        name
        for path in tree.files(ROOT)
        if path.suffix == ".py"
        for name in re.findall(r'"(grpc\.[a-z\d.]+_[a-z\d_.]+)"', (ROOT / path).read_text())
    }
    core = Path(cygrpc.__file__).read_bytes()

    assert "grpc.so_reuseport" in named
    assert sorted(name for name in named if name.encode() not in core) == []
