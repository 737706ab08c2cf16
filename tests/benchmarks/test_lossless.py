"""benchmarks/lossless.py over the fake model: it goes on where it stopped, mixes nothing, and finds a difference."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from plait import llm
from plait.core.params import SamplingParams
from tests.llm.fakes import make_llm

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
ABOUT = {"weights": {"fake": "1"}, "isa": "x"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import lossless

    make_llm(monkeypatch).close()
    monkeypatch.setattr(lossless, "CONTEXT", 1024)
    return lossless


def given(**fields: Any) -> argparse.Namespace:
    usual = {"model": "fake", "draft": None, "ways": ["lookahead", "lookahead tree"]}
    return argparse.Namespace(**{**usual, "batch": [2], "tokens": 20, "first": 99, **fields})


def prompts(bench: Any, count: int) -> list[Any]:
    return [bench.Asked("abc" * (i + 1), ("ab",) if i % 4 == 1 else ()) for i in range(count)]


def record(bench: Any, path: Path, about: Any = None, **choices: bool) -> Any:
    return bench.Record(
        path, about or ABOUT, keep=choices.get("keep", False), fresh=choices.get("fresh", False)
    )


def test_a_run_goes_on_where_it_stopped(bench: Any, tmp_path: Path) -> None:
    path, asked = tmp_path / "record.json", prompts(bench, 11)
    bench.prove_all(given(first=8), asked, [], record(bench, path))
    first = json.loads(path.read_text())
    assert {way["prompts"] for way in first["ways"].values()} == {8}
    bench.prove_all(given(ways=["lookahead", "auto"]), asked, [], record(bench, path))
    found = json.loads(path.read_text())
    done = {way: (own["prompts"], own["equal"]) for way, own in found["ways"].items()}
    assert done == {
        "lookahead, batch 2": (11, 11),
        "lookahead tree, batch 2": (8, 8),
        "auto, batch 2": (11, 11),
    }
    rows = found["rows"]["lookahead, batch 2"]
    assert [rows[str(number)] for number in range(8)] == list(
        first["rows"]["lookahead, batch 2"].values()
    )
    assert len(found["rows"]["plain"]) == 11
    assert found["differences"] == []
    assert rows["1"][2] == 0, "an answer with stop strings is not counted"
    assert found["ways"]["lookahead, batch 2"]["drafted_per_token"] > 0


def test_a_difference_is_found_and_said_where(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = llm.LLM.generate

    def wrong(self: Any, texts: Any, params: list[SamplingParams], **choices: Any) -> Any:
        outputs = generate(self, texts, params, **choices)
        if choices:
            outputs[2].outputs[0].token_ids[5] += 1
        return outputs

    monkeypatch.setattr(llm.LLM, "generate", wrong)
    own = record(bench, tmp_path / "record.json")
    bench.prove_all(given(ways=["lookahead"]), prompts(bench, 4), [], own)
    assert own.summary("lookahead, batch 2")["equal"] == 3
    (difference,) = own.differences
    assert (difference["prompt"], difference["at"], difference["plain_is_itself"]) == (2, 5, True)


def test_what_other_weights_made_is_not_gone_on_with(bench: Any, tmp_path: Path) -> None:
    from lossless_record import OtherError

    path, asked = tmp_path / "record.json", prompts(bench, 3)
    bench.prove_all(given(), asked, [], record(bench, path))
    for name, value in (("weights", {"fake": "2"}), ("isa", "y")):
        with pytest.raises(OtherError, match=f"with other {name}"):
            record(bench, path, {**ABOUT, name: value}, keep=True)
    assert record(bench, path, {**ABOUT, "isa": "y"}, fresh=True).rows == {"plain": {}}


def test_what_other_code_made_is_told_apart(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lossless_record

    path, asked = tmp_path / "record.json", prompts(bench, 12)
    bench.prove_all(given(first=8), asked, [], record(bench, path))
    monkeypatch.setattr(lossless_record, "code", lambda: {"commit": "new", "sources": "other"})
    with pytest.raises(lossless_record.OtherError, match="by other code"):
        record(bench, path)
    own = record(bench, path, keep=True)
    bench.prove_all(given(), asked, [], own)
    assert list(own.summary("lookahead, batch 2")["by_commit"].values()) == [8, 4]


def test_humaneval_has_long_prompts_and_stop_strings(bench: Any, tmp_path: Path) -> None:
    import gzip

    file = tmp_path / "HumanEval.jsonl.gz"
    problem = {"prompt": "def f():\n", "canonical_solution": "    return 1\n"}
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(problem) + "\n" for _ in range(16))
    asked, texts = bench.humaneval(file)
    assert len(asked) == 16
    assert len(texts) == 8
    assert sum(bool(one.stops) for one in asked) == 4
    assert sum(len(one.text) > 50 for one in asked) == 2
    prose, pieces = bench.prose()
    assert len(prose) == 200
    assert min(len(one.text) for one in prose) >= 20
    assert pieces
