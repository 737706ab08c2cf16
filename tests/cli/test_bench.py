"""`plait bench`: what is measured, and what is written down with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plait import __version__
from plait.analysis import attention_bench, gemm, roofline, sparse
from plait.analysis.step_cost import Setup, StepCost
from plait.cli import (
    bench_attention,
    bench_gemm,
    bench_latency,
    bench_limits,
    bench_record,
    bench_step,
    bench_throughput,
)
from plait.cli.main import app
from plait.core.config import EngineConfig
from plait.engine.facts import Machine, Work
from plait.models.base import AttentionSpec
from tests.cli.fakes import FakeSession, Output, Times
from tests.fakes import make_engine

HERE = {"threads": 2, "isa": "generic"}
PEAKS = roofline.Peaks(read=2e9, multiply=4e9, last_level_cache=1 << 20)
WORK = Work(1000, 600, 500, 300, (AttentionSpec(0, 2, 1, 8, 1.0),))


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is opened and no peak measured."""
    roof = roofline.Roof(PEAKS, WORK, "f16")
    monkeypatch.setattr(bench_limits, "fetch", lambda model, offline: Path(model))
    monkeypatch.setattr(roofline, "roof", lambda path, config: (roof, "the peaks"))


class Timed(FakeSession):
    """Every run a second slower than the one before; the first is the warm-up."""

    sessions: list[Timed] = []

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.sessions.append(self)

    def _output(self, prompt: Any, text: str, params: Any) -> Any:
        output: Output = super()._output(prompt, text, params)
        slower = float(len(self.asked))
        output.prompt_token_ids = prompt["prompt_token_ids"]
        output.metrics = Times(0.0, 0.0, slower, 3 * slower)
        return output


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(bench_latency, "Session", Timed)
    monkeypatch.setattr(bench_record, "machine", lambda: HERE)
    out = tmp_path / "latency.json"
    Timed.sessions.clear()
    arguments = ["bench", "latency", "m", "--prompt-tokens", "12", "--tokens", "5", "--runs", "3"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(out), "--threads", "2"])
    assert result.exit_code == 0, result.output
    assert "prefill       4.0 tok/s  (12 tokens)" in result.stdout
    assert (
        "outside the kernels, of a decoding step: 4 steps behind 12 tokens 25.0%" in result.stdout
    )
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_the_median_leaves_out_the_warm_up(record: dict[str, Any]) -> None:
    # Runs 2, 3 and 4 take 2, 3 and 4 s to the first token, and twice that for the other 4 tokens.
    assert [run["time_to_first_token"] for run in record["runs"]] == [2.0, 3.0, 4.0]
    assert record["median"] == {
        "prompt_per_second": 4.0,
        "decode_per_second": pytest.approx(4 / 6),
        "time_to_first_token": 3.0,
    }
    assert record["counters"] == {"head_rows": 7}
    assert record["outside_kernels"] == {"4 steps behind 12 tokens": 0.25}


def test_the_shares_are_of_what_the_machine_could_do(record: dict[str, Any]) -> None:
    # 12 tokens in 3 s: 12 * 1000 weights, 500 for the logits, 78 pairs of a row and a slot, 32 MACs each.
    prefill = (12 * 1000 + 500 + 78 * 32) / PEAKS.multiply
    assert record["of_limit"]["prefill"] == pytest.approx(prefill / 3)
    # Behind 14 tokens 900 bytes of weights are read and 15 slots of 32 bytes.
    decode = (900 + 15 * 32) / PEAKS.read
    assert record["of_limit"]["decode"] == pytest.approx(decode * 4 / 6)
    assert record["peaks"] == asdict(PEAKS)


def test_the_record_says_what_ran_and_where(record: dict[str, Any]) -> None:
    assert (record["bench"], record["model"], record["machine"]) == ("latency", "m", HERE)
    assert (record["prompt_tokens"], record["tokens"]) == (12, 5)
    assert record["engine"]["threads"] == 2
    assert set(record["load_average"]) == {"before", "after"}


def test_every_run_has_its_own_prompt_and_no_end_token(record: dict[str, Any]) -> None:
    asked = Timed.sessions[0].asked
    prompts = [tuple(prompt["prompt_token_ids"]) for prompt, _ in asked]
    assert len(set(prompts)) == len(prompts) == 4
    assert {prompt[0] for prompt in prompts} != {prompts[0][0]}
    for prompt, params in asked:
        assert all(0 <= token < 100 for token in prompt["prompt_token_ids"])
        assert (params.max_tokens, params.temperature, params.ignore_eos) == (5, 0.0, True)


def test_a_cached_prompt_is_one_that_was_asked_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_latency, "Session", Timed)
    monkeypatch.setattr(bench_record, "machine", lambda: HERE)
    Timed.sessions.clear()
    out = tmp_path / "latency.json"
    load = ["--prompt-tokens", "12", "--tokens", "5", "--runs", "2"]
    arguments = ["bench", "latency", "m", *load, "--cached", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    prompts = [tuple(prompt["prompt_token_ids"]) for prompt, _ in Timed.sessions[0].asked]
    assert prompts[3:] == prompts[1:3] != prompts[:2]
    # Runs 2 and 3 take 2 and 3 s, their repetitions 4 and 5 s.
    assert "4.500 s to the first token, 180.0% of cold (0 tokens found)" in result.stdout
    record = json.loads(out.read_text())
    assert [run["time_to_first_token"] for run in record["cached_runs"]] == [4.0, 5.0]
    off = CliRunner().invoke(app, [*arguments, "--no-enable-prefix-caching"])
    assert (off.exit_code, len(Timed.sessions)) == (2, 1)
    assert "the prefix cache, which is off" in off.stderr


@pytest.mark.parametrize(
    "arguments", [["--runs", "0"], ["--tokens", "1"], ["--prompt-tokens", "0"]]
)
def test_nothing_to_measure_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["bench", "latency", "m", *arguments]).exit_code == 2


def test_a_record_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_latency, "Session", Timed)
    monkeypatch.setattr(bench_record, "machine", lambda: HERE)
    out = tmp_path / "missing" / "latency.json"
    Timed.sessions.clear()
    result = CliRunner().invoke(app, ["bench", "latency", "m", "--runs", "1", "--out", str(out)])
    assert (result.exit_code, Timed.sessions) == (1, [])
    assert result.stderr.splitlines()[-1] == f"plait: No such file or directory: {out}"


class Engine:
    """What `build` gives, around an engine over a fake model."""

    def __init__(self) -> None:
        self.is_closed = False

    def open(self, config: EngineConfig) -> Engine:
        sharing = config.enable_prefix_caching
        self.engine = make_engine(num_pages=128, enable_prefix_caching=sharing)
        return self

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    engine = Engine()
    monkeypatch.setattr("plait.engine.build.build", engine.open)
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "home"))
    for command in (bench_throughput, bench_step):
        monkeypatch.setattr(command, "fetch", lambda model, offline: Path(model))
    here = Machine("a processor", ("generic",), 2, 0)
    monkeypatch.setattr("plait.engine.pace.machine", lambda: here)
    monkeypatch.setattr(bench_record, "machine", lambda: HERE)
    return engine


def run_bench(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    out = tmp_path / "record.json"
    result = CliRunner().invoke(app, ["bench", *arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(out.read_text())
    assert (record["machine"], set(record["load_average"])) == (HERE, {"before", "after"})
    return record


def test_throughput_records_the_load(built: Engine, tmp_path: Path) -> None:
    options = ["--batch", "3", "--prompt-tokens", "9", "--tokens", "4", "--runs", "2"]
    record = run_bench(tmp_path, "throughput", "m", *options)
    assert (record["bench"], record["model"]) == ("throughput", "m")
    assert (record["batch"], record["prompt_tokens"], record["tokens"]) == (3, 9, 4)
    assert record["median"]["tokens_per_second"] > 0
    assert record["of_limit"] > 0
    assert record["median"]["cached_tokens"] == 0
    assert record["engine"]["enable_prefix_caching"]
    assert built.engine.metrics.num_tokens == 3 * 3 * 4
    assert built.is_closed


def test_step_keeps_its_result_for_others(built: Engine, tmp_path: Path) -> None:
    record = run_bench(tmp_path, "step", "m", "--passes", "1")
    setup = Setup("m", "a processor", "generic", 2, "int8", "f16", __version__)
    cost = StepCost.load(setup, tmp_path / "home")
    assert cost is not None
    assert cost.predict(8, 100) > 0
    assert record["cost"]["contexts"] == list(cost.contexts)
    assert not record["engine"]["enable_prefix_caching"]
    assert record["engine"]["proposer"] == "none"
    assert built.is_closed


def test_a_step_is_measured_without_drafts(built: Engine) -> None:
    result = CliRunner().invoke(app, ["bench", "step", "m", "--proposer", "lookahead"])
    assert result.exit_code == 2
    assert "no use for the proposer 'lookahead'" in result.output


def test_gemm_records_every_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product = {
        "format": "q8_0",
        "shape": [64, 32],
        "rows": 1,
        "microseconds": 2.0,
        "gigabytes_per_second": 1.0,
        "of_read": 0.5,
        "gigamacs_per_second": 1.0,
        "of_multiply": 0.25,
    }
    monkeypatch.setattr(bench_gemm, "fetch", lambda model, offline: Path(model))
    monkeypatch.setattr(bench_record, "machine", lambda: HERE)
    monkeypatch.setattr(roofline, "peaks", lambda pool, isa: PEAKS)
    monkeypatch.setattr(gemm, "measure", lambda *args, **options: iter([product]))
    record = run_bench(tmp_path, "gemm", "m", "--threads", "1")
    assert record["products"] == [product]
    assert record["peaks"]["read"] == 2e9


def test_attention_records_every_load_and_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_attention, "fetch", lambda model, offline: Path(model))
    monkeypatch.setattr(bench_record, "machine", lambda: HERE)
    monkeypatch.setattr(roofline, "peaks", lambda pool, isa: PEAKS)
    monkeypatch.setattr("plait.engine.facts.model_work", lambda path: WORK)
    monkeypatch.setattr(attention_bench, "COLD_BYTES", 1)
    loads = ["--load", "decode 8 at 512", "--load", "decode 1 at 128"]
    options = ["--threads", "1", "--seconds", "0", "--kv", "int8", "--kv", "f16"]
    record = run_bench(tmp_path, "attention", "m", *loads, *options)
    found = [(one["name"], one["kv"]) for one in record["loads"]]
    assert found == [(name, kv) for name in loads[1::2] for kv in ("int8", "f16")]
    assert all(one["of_read"] > 0 and one["of_multiply"] > 0 for one in record["loads"])
    macs = 8 * 2 * 2 * 8 * 513
    for one in record["loads"][:2]:
        assert one["gigamacs_per_second"] * one["milliseconds"] == pytest.approx(macs / 1e6)


@pytest.mark.parametrize("option", [["--load", "decode 7"], ["--kv", "f8"], ["--isa", "z80"]])
def test_attention_refuses_what_there_is_not(
    option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_attention, "fetch", lambda model, offline: Path(model))
    monkeypatch.setattr("plait.engine.facts.model_work", lambda path: WORK)
    result = CliRunner().invoke(app, ["bench", "attention", "m", *option])
    assert result.exit_code == 2, result.output
    assert option[1] in result.stderr


def test_a_request_longer_than_the_context_is_refused(built: Engine) -> None:
    result = CliRunner().invoke(app, ["bench", "throughput", "m", "--prompt-tokens", "100000"])
    assert result.exit_code == 2
    assert "100064 tokens, but the context holds" in result.stderr
    assert built.is_closed


def test_gemm_can_compare_sparse_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product = {
        "format": "q8_0",
        "shape": [64, 32],
        "rows": 1,
        "dense_microseconds": 3.0,
        "sparse_microseconds": 2.0,
        "speedup": 1.5,
        "median_speedup": 1.25,
    }
    monkeypatch.setattr(bench_gemm, "fetch", lambda model, offline: Path(model))
    monkeypatch.setattr(bench_record, "machine", lambda: HERE)
    monkeypatch.setattr(roofline, "peaks", lambda pool, isa: roofline.Peaks(2e9, 4e9, 1 << 20))
    monkeypatch.setattr(sparse, "measure", lambda *args, **options: iter([product]))
    assert run_bench(tmp_path, "gemm", "m", "--threads", "1", "--sparse")["products"] == [product]
