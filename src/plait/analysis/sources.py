"""Which code a record was made by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import plait
from plait import _C

BESIDE = ("analysis", "cli", "programs", "server")
"""Packages that neither choose a token nor have a part in the time of a step."""


def fingerprint() -> str:
    """Of all that has a say in what a step computes and how long it takes: the package's sources and the native module."""
    package = Path(plait.__file__).parent
    digest = hashlib.sha256(Path(_C.__file__).read_bytes())
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        if name.parts[0] not in BESIDE:
            digest.update(name.as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
