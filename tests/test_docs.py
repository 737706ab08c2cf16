"""The worked examples in docs/ are real: each passes the tests that its kind has to pass."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "plait"

EXAMPLE = re.compile(r"```python\n# src/plait/(\S+)/(\S+)\.py\n(.*?)```", re.DOTALL)

# Gives a room one more sibling for as long as this interpreter lives.
ADD = """
import importlib, sys
from pathlib import Path
from plait.core import registry
registry._ROOT = Path({copy!r})
importlib.import_module("plait.{room}").__path__.append({copy!r} + "/{room}")
"""

CONFORMANCE = """
import pytest
class Count:
    passed = 0
    def pytest_runtest_logreport(self, report):
        self.passed += report.when == "call" and report.passed
count = Count()
code = pytest.main(
    ["-p", "no:cacheprovider", "tests/{room}/test_conformance.py", "-k", "{name}"], plugins=[count]
)
assert count.passed >= 5, count.passed
sys.exit(code)
"""

TRACES = """
from plait.models.choose import model_for, trace
from tests.synthetic import LLAMA, checkpoint
model = model_for("safetensors", {{**LLAMA, "model_type": "{name}"}})
stored = checkpoint(LLAMA)
shapes = {{n: stored.info(n).shape for n in stored.names() if "post_attention" not in n}}
graph = trace(model, shapes)
assert [node.kind for node in graph.nodes].count("attention") == LLAMA["num_hidden_layers"]
assert graph.result.width == LLAMA["vocab_size"]
"""


def example(page: str) -> tuple[str, str, str]:
    """(room, name, source) of the file that a page shows."""
    found = EXAMPLE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert len(found) == 1, f"{page} shows {len(found)} files"
    return found[0]


@pytest.mark.parametrize(
    ("page", "check"),
    [
        ("add_a_decoder.md", CONFORMANCE),
        ("add_a_cache.md", CONFORMANCE),
        ("add_a_format.md", CONFORMANCE),
        ("add_a_model.md", TRACES),
    ],
)
def test_a_worked_example_works(page: str, check: str, tmp_path: Path) -> None:
    room, name, source = example(page)
    assert not (SRC / room / f"{name}.py").exists(), f"{page} shows a file that exists by now"
    copy = tmp_path / "plait"
    shutil.copytree(SRC, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (copy / room / f"{name}.py").write_text(source, encoding="utf-8")
    program = (ADD + check).format(copy=str(copy), room=room, name=name)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = EXAMPLE.sub("", page.read_text(encoding="utf-8"))
    names = {example(page.name)[1]} if page.name.startswith("add_a_") else set()
    for path in re.findall(r"`((?:[\w.]+/)+[\w.]+\.(?:py|h|cpp|toml|md))`", text):
        found = [ROOT / path, SRC / path, ROOT / "csrc" / path]
        assert (
            any(one.exists() for one in found) or Path(path).stem.removeprefix("test_") in names
        ), path


def test_every_function_that_the_map_names_exists() -> None:
    text = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/<>*]+\.py):(\w+)`", text)
    assert len(named) >= 10
    for path, name in named:
        files = sorted(SRC.glob(re.sub(r"<\w+>", "*", path)))
        defined = [name in _definitions(file) for file in files]
        assert any(defined), f"{path}:{name}"


def _definitions(file: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
