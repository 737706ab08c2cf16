"""A program from a file: what is one, its arguments, and what goes wrong in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plait import LLM
from plait.cli.main import app
from plait.cli.session import Session
from tests.llm.fakes import make_llm

GOOD = '''
"""Says something."""
from pathlib import Path
from typing import Literal

async def main(p, name: str, count: int = 2, ratio: float = 0.5, loud: bool = False,
               parts: list[int] = [], how: Literal["a", "b"] = "a"):
    p += f"{name} said "
    word = await p.select(["yes", "no"])
    return {"word": word, "given": [name, count, ratio, loud, parts, how]}
'''


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> LLM:
    """Behind every session."""
    made = make_llm(monkeypatch)

    def init(self: Any, config: Any) -> None:
        self.name, self.llm = config.model, made

    monkeypatch.setattr(Session, "__init__", init)
    return made


def call(folder: Path, source: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    file = folder / "own.py"
    file.write_text(source, encoding="utf-8")
    done = CliRunner().invoke(app, ["program", str(file), *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_result_is_printed_and_its_cost_told(llm: LLM, tmp_path: Path) -> None:
    code, out, told = call(tmp_path, GOOD, "Ann")
    assert code == 0
    assert json.loads(out)["word"] in ("yes", "no")
    assert "billable tokens" in told
    code, out, _ = call(tmp_path, GOOD, "Ann", "--json")
    record = json.loads(out)
    assert record["text"] == f"Ann said {record['result']['word']}"
    assert record["ledger"]["billable_tokens"] == (
        record["ledger"]["prompt_tokens"] + record["ledger"]["generated_tokens"]
    )
    _, out, _ = call(tmp_path, GOOD, "Ann", "--text")
    assert out.startswith("Ann said ")


def test_arguments_come_in_order_or_by_name_and_have_types(llm: LLM, tmp_path: Path) -> None:
    given = ["Ann", "3", "loud=true", "parts=1,2", "how=b", "ratio=1e-3", "--json"]
    _, out, _ = call(tmp_path, GOOD, *given)
    assert json.loads(out)["result"]["given"] == ["Ann", 3, 0.001, True, [1, 2], "b"]
    _, out, _ = call(tmp_path, GOOD, "count=4", "a=b", "--json")
    assert json.loads(out)["result"]["given"][:2] == ["a=b", 4]


@pytest.mark.parametrize(
    ("source", "arguments", "complaint"),
    [
        (GOOD, [], "name is missing"),
        (GOOD, ["Ann", "x"], "count: 'x' is no int"),
        (GOOD, ["Ann", "count=1", "count=2"], "count was given twice"),
        (GOOD, ["Ann", "how=c"], "one of: a, b"),
        (GOOD, ["Ann", "loud=maybe"], "one of: true, false"),
        (GOOD, ["a", "1", "2", "true", "1", "a", "b"], "'b' is one argument too many"),
        ("x = 1", [], "holds no program"),
        ("def main(p): pass", [], "no async function"),
        ("async def main(): pass", [], "takes no prompt"),
        ("async def main(p, *rest): pass", [], "takes whatever it is given"),
        ("async def main(p, a: dict): pass", ["{}"], "cannot come from a command line"),
        (
            "from __future__ import annotations\nasync def main(p, a: Nowhere): pass",
            ["1"],
            "not known",
        ),
    ],
)
def test_what_is_no_call_is_refused(
    llm: LLM, tmp_path: Path, source: str, arguments: list[str], complaint: str
) -> None:
    code, out, told = call(tmp_path, source, *arguments)
    assert (code, out) == (2, "")
    assert complaint in told


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("async def main(p) return", "own.py:1: "),
        ("import nowhere_at_all", "own.py:1: ModuleNotFoundError"),
        ("raise SystemExit(5)", "own.py:1: SystemExit: 5"),
        ("async def main(p):\n    p += 'a'\n    return 1 / 0", "own.py:3: ZeroDivisionError"),
        ("async def main(p):\n    p += 5", "own.py:2: int cannot be added"),
        (
            "async def main(p):\n    p += 'ab'\n    await p.gen(dict)",
            "own.py:3: a hole cannot hold",
        ),
    ],
)
def test_a_program_that_fails_says_where(
    llm: LLM, tmp_path: Path, source: str, complaint: str
) -> None:
    code, out, told = call(tmp_path, source)
    assert (code, out) == (1, "")
    assert complaint in told
    assert "Traceback" not in told


def test_a_file_that_is_not_there(llm: LLM, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["program", str(tmp_path / "no.py")])
    assert done.exit_code == 2
    assert "no file" in done.stderr
