"""docs/papers.md claims nothing that a collected, unskipped test does not show."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from plait.cli.paper_rows import STATES, Paper, papers

ROOT = Path(__file__).resolve().parent.parent
ROWS = papers()
NAMES = "f4de56ea51d2098596bd7f0c030a64ce31739dce2eb6d69548ea55ec728d0225"
"""SHA-256 of the lines "number name": the list of papers is not ours to edit."""
CLAIMS = [row for row in ROWS if row.state != "not working"]

# Prints {test id: names of its marks} for everything a plain `pytest` run would execute.
PROBE = """
import json, sys, pytest

class Probe:
    def pytest_collection_finish(self, session):
        found = {i.nodeid: [m.name for m in i.iter_markers()] for i in session.items}
        print("PROBE" + json.dumps(found))

sys.exit(pytest.main(["--collect-only", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[Probe()]))
"""


def collected(tests: list[str]) -> dict[str, list[str]]:
    """The marks of every test that pytest collects for these ids, without running any."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *tests], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("PROBE")]
    assert lines, done.stdout + done.stderr
    return dict(json.loads(lines[-1].removeprefix("PROBE")))


def problems(test: str, marks: dict[str, list[str]]) -> list[str]:
    """Why a test id does not show anything; empty when it does."""
    hits = {name: m for name, m in marks.items() if name == test or name.startswith(f"{test}[")}
    if not hits:
        return [f"{test} is not collected"]
    return [
        f"{name} is marked {mark}"
        for name, own in hits.items()
        for mark in own
        if mark in ("skip", "skipif", "xfail")
    ] + _skips(test)


def _skips(test: str) -> list[str]:
    """Calls in the test's file that could skip it while it runs."""
    tree = ast.parse((ROOT / test.split("::")[0]).read_text(encoding="utf-8"))
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    bad = ("pytest.skip", "pytest.xfail", "pytest.importorskip")
    return [f"{test}: its file calls {call}" for call in calls if call in bad]


def test_there_are_87_rows_in_order() -> None:
    assert [row.number for row in ROWS] == list(range(1, 88))
    assert len({row.name for row in ROWS}) == 87
    assert all(row.name and row.area and row.capability for row in ROWS)


def test_numbers_and_names_are_those_that_were_given() -> None:
    names = "\n".join(f"{row.number} {row.name}" for row in ROWS)
    assert hashlib.sha256(names.encode()).hexdigest() == NAMES
    assert (ROWS[0].name, ROWS[18].name, ROWS[74].name) == ("dInfer", "GEB-1.3B", "MindLLM")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_a_row_has_a_known_state_and_tests_when_it_claims_one(row: Paper) -> None:
    assert row.state in STATES
    assert bool(row.tests) == (row.state != "not working")


def test_every_claim_is_shown_by_tests_that_run() -> None:
    tests = sorted({test for row in CLAIMS for test in row.tests})
    marks = collected(tests) if tests else {}
    assert [problem for test in tests for problem in problems(test, marks)] == []


def test_the_check_catches_tests_that_show_nothing(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("")
    sample = tmp_path / "test_sample.py"
    sample.write_text(
        "import pytest\n"
        "@pytest.mark.skip\ndef test_skipped(): pass\n"
        "@pytest.mark.xfail\ndef test_expected_to_fail(): pass\n"
        "def test_runs(): pass\n"
    )
    names = [f"{sample}::{name}" for name in ("test_skipped", "test_expected_to_fail", "test_runs")]
    marks = {
        f"{sample}::{name.split('::')[-1]}": own
        for name, own in collected([str(sample), "--rootdir", str(tmp_path)]).items()
    }
    assert [len(problems(name, marks)) for name in names] == [1, 1, 0]
    assert problems(f"{sample}::test_missing", marks) != []
    sample.write_text("import pytest\ndef test_runs(): pytest.skip('not here')\n")
    assert problems(names[2], marks) != []


def test_the_page_agrees_with_its_source() -> None:
    spec = importlib.util.spec_from_file_location("papers_page", ROOT / "scripts" / "papers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert written == module.page(), "run `make docs`"
