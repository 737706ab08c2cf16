"""The import law of docs/structure.md: calls go down, values come up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "plait"

BELOW_ENGINE = {
    "runner",
    "iteration",
    "proposers",
    "decoding",
    "grammar",
    "kvcache",
    "models",
    "weights",
}
"""A room, or one file of a room, and what it may import: rooms, or single files of rooms.

"plait" is the package's own face (its version), "_C" the native module.
"""
LAW: dict[str, set[str]] = {
    "core": set(),
    "kernels": {"_C", "core"},
    "quant": {"kernels", "core"},
    "models": {"quant", "kernels", "core"},
    "weights": {"quant", "kernels", "core"},
    "text": {"core"},
    "kvcache": {"kernels", "core"},
    "decoding": {"kernels", "core"},
    "grammar": {"kernels", "core"},
    "runner": {"models", "weights", "kvcache.pool", "quant", "kernels", "core"},
    "proposers": {"core"},
    "iteration": {"kvcache.base", "decoding.base", "grammar.base", "proposers.base", "core"},
    "iteration.constraining": {
        *("kvcache.base", "decoding.base", "grammar.base", "grammar.leading", "proposers.base"),
        "core",
    },
    "iteration.speculative": {"proposers", "decoding.base", "core"},
    "engine": {"iteration", "runner", "core"},
    "engine.worker": {"iteration", "runner", "kernels", "core"},
    "engine.pace": {"analysis.step_cost", "weights.hub", "iteration", "core"},
    "engine.corpus": {"proposers.corpus", "grammar.base", "core"},
    "engine.parts": {"decoding", "iteration", "kernels", "core"},
    "engine.build": {*BELOW_ENGINE, "quant", "kernels", "core"},
    "engine.beside": {*BELOW_ENGINE, "quant", "kernels", "core"},
    "analysis": {"engine", "weights", "kvcache.pool", "quant", "kernels", "core"},
    "analysis.step_cost": set(),
    "llm": {"text", "engine", "core"},
    "server": {"text", "engine.worker", "core", "plait"},
    "programs": {"llm", "engine.worker", "text", "grammar", "core"},
    "cli": {
        *("server", "llm", "engine", "text", "weights.hub", "programs", "analysis", "core"),
        "plait",
    },
    "__init__": {"llm", "core"},
    "__main__": {"cli"},
}

FILES = sorted(SRC.rglob("*.py"))


def module_of(path: Path) -> str:
    """src/plait/engine/build.py -> engine.build; src/plait/engine/__init__.py -> engine."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def allowed(module: str) -> set[str]:
    """The row of the law for a file: its own row when it has one, else that of its room."""
    room = module.split(".")[0]
    return LAW.get(module, LAW[room]) | {room}


def violations(module: str, source: str) -> list[str]:
    """What a file imports against the law, one line each."""
    law = allowed(module)
    return [
        f"line {line}: plait.{module} may not import {target or 'relatively'}"
        for line, target in imports(source)
        if not any(target == row or target.startswith(f"{row}.") for row in law)
    ]


def imports(source: str) -> Iterator[tuple[int, str]]:
    """(line, file below plait) of every import, wherever it stands; "" for a relative one."""
    for node in ast.walk(ast.parse(source)):
        for target in _targets(node):
            yield node.lineno, target  # type: ignore[attr-defined]


def _targets(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [t for alias in node.names for t in _below_plait(alias.name)]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return [""]
        base = node.module or ""
        return [t for alias in node.names for t in _below_plait(base, alias.name)]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        return _dynamic(ast.unparse(node.func).split(".")[-1], node.args[0].value)
    return []


def _dynamic(function: str, argument: object) -> list[str]:
    """Imports in disguise: import_module("plait.x"), __import__ and the registry's load("room", …)."""
    if not isinstance(argument, str):
        return []
    if function in ("import_module", "__import__"):
        return _below_plait(argument)
    return [argument.replace("/", ".")] if function == "load" and (SRC / argument).is_dir() else []


def _below_plait(module: str, name: str = "") -> list[str]:
    if module == "plait":
        is_module = name == "_C" or name in {path.stem for path in SRC.iterdir()}
        return [name if is_module else "plait"]
    if not module.startswith("plait."):
        return []
    inner = module.removeprefix("plait.")
    return [f"{inner}.{name}" if name else inner]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_a_room_imports_only_what_its_row_lists(path: Path) -> None:
    module = module_of(path)
    assert module.split(".")[0] in LAW, f"{module} is a new room: give it a row in the law"
    assert violations(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("text.tokenizer", "from plait.engine.engine import Engine"),
        ("text.tokenizer", "import plait.engine.engine"),
        ("text.tokenizer", "from plait import engine"),
        ("iteration.block", "if TYPE_CHECKING:\n    from plait.kvcache.paged import Cache"),
        ("iteration.block", "from plait.kvcache import paged"),
        ("engine.engine", "def late():\n    from plait.kvcache.paged import Cache"),
        ("engine.engine", "from plait.decoding.base import Decoder"),
        ("runner.runner", "from plait.kvcache.paged import Cache"),
        ("core.params", "from .errors import UserError"),
        ("core.params", "from . import errors"),
        ("cli.show", "from plait import _C"),
        ("cli.show", "from plait.weights.gguf import read"),
        ("cli.run", "import importlib\nimportlib.import_module('plait.models.llama')"),
        ("cli.run", "from plait.core import registry\nregistry.load('decoding', name)"),
        ("models.llama", "import plait"),
        ("engine.engine", "from plait.analysis import steps"),
        ("analysis.step_cost", "from plait.engine.engine import Engine"),
    ],
)
def test_the_law_catches_a_violation(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("iteration.block", "from plait.kvcache.base import Cache"),
        ("iteration.block", "from plait.kvcache import base"),
        ("engine.build", "from plait.kvcache.paged import Cache"),
        ("runner.runner", "from plait.kvcache.pool import Pool"),
        ("cli.main", "from plait import __version__"),
        ("cli.run", "import json\njson.load(file)\nfrom plaited.models import x"),
        ("kernels.ops", "from plait import _C"),
    ],
)
def test_the_law_lets_the_rest_through(module: str, source: str) -> None:
    assert violations(module, source) == []
