"""The committed type stub says what the native module has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import plait

STUB = Path(plait.__file__).parent / "_C.pyi"


def test_the_stub_is_what_the_module_generates(tmp_path: Path) -> None:
    """`make stub` writes it again."""
    fresh = tmp_path / "_C.pyi"
    command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "plait._C", "-o", str(fresh)]
    subprocess.run(command, check=True)
    assert STUB.read_text() == fresh.read_text()
