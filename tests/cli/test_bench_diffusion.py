"""`plait bench diffusion`: a table, a record and a picture of one sweep."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from plait.cli import bench_record
from plait.cli.main import app
from plait.cli.session import Session
from plait.core.errors import NotFoundError
from plait.programs import sweep
from tests.fakes import CAUSAL_TRAITS, FULL_TRAITS
from tests.llm.fakes import make_llm


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three items, of which two can never be right, with a model of its own behind every session."""

    def init(self: Any, config: Any) -> None:
        """A model of three modes but for drafts: the planner that is asked for chooses."""
        if config.planner == "speculative":
            raise NotFoundError("no planner called 'speculative'")
        self.name, self.template, self.output = config.model, None, None
        is_causal = config.planner == "autoregressive" or config.model == "causal"
        traits = CAUSAL_TRAITS if is_causal else FULL_TRAITS
        self.llm = make_llm(monkeypatch, traits)

    monkeypatch.setattr(Session, "__init__", init)
    monkeypatch.setattr(bench_record, "machine", lambda: {"threads": 2})
    file = tmp_path / "task.jsonl"
    items = [{"prompt": p, "answer": "!", "max_tokens": 9} for p in ("ab", "c", "dd")]
    file.write_text("\n".join(map(json.dumps, items)))
    return file


def bench(task: Path, *arguments: str, model: str = "fake") -> Result:
    return CliRunner().invoke(app, ["bench", "diffusion", model, str(task), *arguments])


def test_a_sweep_is_told_written_and_drawn(task: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "sweep.json", tmp_path / "sweep.svg"
    varied = [
        "--vary",
        "block_size=3,9",
        "--vary",
        "threshold=0.2,0.4",
        "--vary",
        "reuse=none,dual",
    ]
    ways = ["--sweep", "threshold", "--sweep", "credit(threshold)", "--sweep", "factor"]
    result = bench(task, *ways, *varied, "--out", str(out), "--plot", str(plot))
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    points = record["points"]
    # Three baselines; both threshold decoders 2 x 2 x 2; factor 2 x 2 by the four values it is tried with.
    assert len(points) == 3 + 8 + 8 + 16
    assert [point["curve"] for point in points[:3]] == [None, None, None]
    assert [point["planner"] for point in points[:3]] == ["autoregressive", "auto", "auto"]
    assert len(record["areas"]) == 3 + 3 * 4
    assert "speculative: not measured, no planner called" in result.stderr
    for point in points:
        assert point["total"] == 3
        low, high = point["interval"]
        assert low <= point["accuracy"] <= high
        nfe, tokens = point["forwards_per_request"], point["tokens_per_forward"]
        assert nfe * tokens <= 9.001
        assert 0 < point["position_efficiency"] <= tokens
        assert point["latency"]["p50"] <= point["latency"]["p95"] <= point["latency"]["p99"]
        assert point["label"] in result.stdout
    dual = [
        p
        for p in points
        if p["options"].get("reuse") == "dual" and p["options"]["block_size"] == "3"
    ]
    none = [
        p
        for p in points
        if p["options"].get("reuse") == "none" and p["options"]["block_size"] == "3"
    ]
    assert sum(p["position_efficiency"] for p in dual) > sum(p["position_efficiency"] for p in none)
    assert (record["task"], record["items"], record["batch"]) == ("task.jsonl", 3, 1)
    equal = record["equal_accuracy"]
    assert equal["reference"] == "autoregressive"
    assert set(equal["curves"]) == {point["curve"] for point in points[3:]}
    for row in equal["curves"].values():
        assert set(row["over"]) == {point["label"] for point in points[:3]}
        assert f"{row['label']}: {row['accuracy']:.1%}" in result.stdout
    assert plot.read_text().startswith("<svg")
    assert plot.read_text().count("<circle") == len(points)


def test_of_several_rounds_the_one_of_median_time_counts(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([9.0, 1.0, 3.0] * 4)

    def measure(*_: Any, **__: Any) -> sweep.Cost:
        return sweep.Cost(1, 3, 30, 10, 40, next(seconds), (1.0, 1.0, 1.0))

    monkeypatch.setattr(sweep, "measure", measure)
    out = tmp_path / "sweep.json"
    ways = ["--planner", "canvas", "--rounds", "3", "--sweep", "joint", "--vary", "threshold=0.2"]
    result = bench(task, *ways, "--out", str(out))
    assert result.exit_code == 0, result.output
    rates = [point["tokens_per_second"] for point in json.loads(out.read_text())["points"]]
    assert rates == [10.0] * 4


def test_a_proposer_is_for_the_speculative_baseline_alone(
    task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []
    init = Session.__init__

    def note(self: Any, config: Any) -> None:
        opened.append((config.planner, config.proposer))
        init(self, replace(config, proposer="none"))

    monkeypatch.setattr(Session, "__init__", note)
    ways = ["--proposer", "lookahead", "--planner", "canvas", "--vary", "threshold=0.2"]
    assert bench(task, *ways).exit_code == 0
    wanted = [("canvas", "none"), ("autoregressive", "none"), ("speculative", "lookahead")]
    assert opened == wanted


def test_a_causal_model_has_nothing_to_sweep(task: Path) -> None:
    result = bench(task, model="causal")
    assert result.exit_code == 2, result.output
    assert "left to right" in result.stderr
    assert "--planner block or canvas" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--vary", "steps=1,2"], "steps is no option"),
        (["--vary", "threshold"], "name=value"),
        (["--vary", "threshold=high"], "threshold='high' is not valid"),
        (["--sweep", "treshold"], "no decoding called 'treshold'"),
        (["--sweep", "threshold(credit)"], "nothing can stand inside"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_measured(
    task: Path, arguments: list[str], complaint: str
) -> None:
    result = bench(task, *arguments)
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert "a forward" not in result.stderr
