"""The small models that a checkout of Plait holds, by the name of their folder in `models/`. An installed package has none."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""Of the checkout, if this is one."""


def folders() -> dict[str, Path]:
    """Name -> folder of its checkpoint; nothing outside of a checkout."""
    if not (ROOT / "pyproject.toml").is_file():
        return {}
    return {file.parent.name: file.parent for file in sorted(ROOT.glob("models/*/config.json"))}
