"""The record of benchmarks/lossless.py: what was asked, of which weights, by which code, and what came of it.

It is written after every few prompts. What was made with other weights, other prompts or another instruction set is
never gone on with; what was made by other code only when that is asked for, and then every prompt says which code.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from plait.analysis.sources import fingerprint

FOLDED = re.compile(r"\[\s+([^\[\]{}]+?)\s+\]")


class OtherError(Exception):
    """The record cannot be gone on with; the text says why, and the ways out."""


class Row(NamedTuple):
    """Of one prompt. digest: of the answer. equal: to plain decoding. tokens, drafted, accepted: of an answer of fixed
    length; 0 for one with stop strings, which may be cut. code: number in the record's "code"."""

    digest: str
    equal: bool
    tokens: int
    drafted: int
    accepted: int
    code: int


def code() -> dict[str, Any]:
    """The commit, and the hash of what has a say in an answer."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True)
    return {"commit": found.stdout.strip() or None, "sources": fingerprint()}


def file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Record:
    """rows: way, and "plain", -> number of the prompt -> Row."""

    def __init__(self, path: Path, about: dict[str, Any], *, keep: bool, fresh: bool) -> None:
        """about: what has to be the same. Raises OtherError."""
        self.path, self.about, own = path, about, code()
        known = {} if fresh or not path.exists() else json.loads(path.read_text("utf-8"))
        if known and known["about"] != about:
            differs = [name for name in about if known["about"].get(name) != about[name]]
            raise OtherError(
                f"{path} was made with other {', '.join(differs) or 'settings'}: --fresh begins anew, --out FILE elsewhere"
            )
        self.code: list[dict[str, Any]] = known.get("code", [])
        sources = [one["sources"] for one in self.code]
        if own["sources"] not in sources:
            if sources and not keep:
                raise OtherError(
                    f"{path} was made by other code ({self.code[-1]['commit']}): --keep goes on and tells them apart, "
                    "--fresh begins anew"
                )
            self.code.append(own)
        self.now = [one["sources"] for one in self.code].index(own["sources"])
        self.differences: list[dict[str, Any]] = known.get("differences", [])
        self.rows = {
            way: {int(number): Row(*row) for number, row in rows.items()}
            for way, rows in {"plain": {}, **known.get("rows", {})}.items()
        }

    def write(self) -> None:
        """All of it or nothing."""
        told = {
            "about": self.about,
            "code": self.code,
            "ways": {way: self.summary(way) for way in self.rows if way != "plain"},
            "differences": self.differences,
            "rows": self.rows,
        }
        text = json.dumps(told, indent=1)
        text = FOLDED.sub(lambda found: "[" + re.sub(r"\s*\n\s*", " ", found[1]) + "]", text)
        part = self.path.with_suffix(".part")
        part.write_text(text + "\n", "utf-8")
        part.replace(self.path)

    def summary(self, way: str) -> dict[str, Any]:
        """What a way has come to. hash: over the answers in the order of the prompts."""
        rows = self.rows[way]
        whole = [row for row in rows.values() if row.tokens]
        later = sum(row.tokens - 1 for row in whole)
        forwards = later - sum(row.accepted for row in whole)
        by_code = {self.code[number]["commit"]: 0 for number in {row.code for row in rows.values()}}
        for row in rows.values():
            by_code[self.code[row.code]["commit"]] += 1
        answers = "".join(rows[number].digest for number in sorted(rows))
        return {
            "prompts": len(rows),
            "equal": sum(row.equal for row in rows.values()),
            "hash": hashlib.sha256(answers.encode()).hexdigest()[:16],
            "tokens_per_forward": round(later / forwards, 3) if forwards else 1.0,
            "drafted_per_token": round(sum(row.drafted for row in whole) / max(1, later), 3),
            "by_commit": by_code,
        }
