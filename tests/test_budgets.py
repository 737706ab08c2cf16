"""Small files, short functions: the sizes that keep the tree readable."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles

import pytest

from plait.core import registry

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "plait"
FILES = sorted(SRC.rglob("*.py"))
TRAIN = sorted((ROOT / "train").rglob("*.py"))
ARCHITECTURES = {f"models/{name}.py" for name in registry.names("models")}

MAX_FILE = 300
MAX_ARCHITECTURE_FILE = 150
MAX_MEDIAN = 10
MAX_P95 = 40

EXCEPTIONS: dict[str, str] = {}
"""File below src/plait -> why it is longer than the budget."""


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(path: Path) -> list[int]:
    """Length in lines of every function of a file, docstring included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def budget(name: str) -> int:
    return MAX_ARCHITECTURE_FILE if name in ARCHITECTURES else MAX_FILE


def test_files_keep_to_their_budget() -> None:
    sizes = {str(path.relative_to(SRC)): lines(path) for path in FILES}
    long = {name: size for name, size in sizes.items() if size > budget(name)}
    assert set(long) - set(EXCEPTIONS) == set(), f"too long: {long}"
    assert set(EXCEPTIONS) - set(long) == set(), "an exception that is no longer needed"


def test_files_of_the_training_keep_to_it_too() -> None:
    assert TRAIN
    assert {path.name: lines(path) for path in TRAIN if lines(path) > MAX_FILE} == {}


def test_functions_keep_to_their_budget() -> None:
    lengths = [length for path in FILES for length in functions(path)]
    assert median(lengths) <= MAX_MEDIAN
    assert quantiles(lengths, n=20)[-1] <= MAX_P95


def test_print_the_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    rooms: dict[str, list[Path]] = defaultdict(list)
    for path in FILES:
        rooms[path.relative_to(SRC).parts[0]].append(path)
    rows = [(room, *_sizes(paths)) for room, paths in sorted(rooms.items())]
    with capsys.disabled():
        print(f"\n{'room':<14}{'files':>6}{'lines':>7}{'longest':>9}{'functions':>11}{'median':>8}")
        for row in [*rows, ("all", *_sizes(FILES))]:
            print("{:<14}{:>6}{:>7}{:>9}{:>11}{:>8.0f}".format(*row))
    assert sum(row[2] for row in rows) == sum(map(lines, FILES))


def _sizes(paths: list[Path]) -> tuple[int, int, int, int, float]:
    lengths = [length for path in paths for length in functions(path)]
    counts = [lines(path) for path in paths]
    return len(paths), sum(counts), max(counts), len(lengths), median(lengths or [0])
