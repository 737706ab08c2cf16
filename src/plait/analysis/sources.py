"""Which code a record was made by."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

BESIDE = ("analysis", "cli", "programs", "server")
"""Packages that neither choose a token nor have a part in the time of a step."""


def fingerprint() -> str:
    """Of all that has a say in what a step computes and how long it takes: the package's sources and the native module."""
    package = Path(__file__).parent.parent
    native = find_spec("plait._C")
    digest = hashlib.sha256()
    if native is not None and native.origin:
        digest.update(Path(native.origin).read_bytes())
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        if name.parts[0] not in BESIDE:
            digest.update(name.as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
