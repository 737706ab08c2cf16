"""JSON from a file we do not trust: bounded size and structure, one object, no name twice."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from plait.core.errors import FormatError
from plait.weights.mapped import MappedFile

MAX_CONFIG_BYTES = 64 << 20

MAX_STRUCTURE = 4_000_000
"""Commas and opening brackets in one document. Each value needs one, and costs some hundred bytes
of memory however few it took in the file."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(text: bytes, where: str) -> dict[str, Any]:
    """The object that `text` holds. Raises FormatError naming `where` for anything else."""
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MAX_STRUCTURE:
        raise FormatError(f"{where} has too many parts to be the description of a model")
    try:
        found = json.loads(text, object_pairs_hook=_unique)
        _require_unicode(text, found)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is not valid JSON: {_first_line(error)}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{where} must hold a JSON object, not a {type(found).__name__}")
    return found


def read(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises NotFoundError, or FormatError as `parse` does."""
    file = MappedFile(path)
    try:
        if file.size > MAX_CONFIG_BYTES:
            raise FormatError(f"{path.name} is {file.size} bytes, more than {MAX_CONFIG_BYTES}")
        return parse(file.data.tobytes(), path.name)
    finally:
        file.close()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {twice[:80]!r} appears twice")
    return found


def _require_unicode(text: bytes, found: Any) -> None:
    """Half of a surrogate pair can be written as an escape, but never printed or sent again."""
    if _SURROGATE.search(text):
        json.dumps(found, ensure_ascii=False).encode()  # UnicodeEncodeError is a ValueError


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["nested too deeply"])[0][:200]
