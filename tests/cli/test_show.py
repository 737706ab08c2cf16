"""`plait show`: facts as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plait.cli import show as command
from plait.cli.main import app
from plait.engine import facts
from plait.engine.facts import FormatShare, ModelFacts

TINY = ModelFacts(
    name="Tiny\x1b[31m",
    kind="gguf",
    architecture="llama",
    parameters=1_234_567,
    file_bytes=3 << 20,
    formats={"q4_0": FormatShare(7, 1_000_000, 2 << 20), "f32": FormatShare(1, 234_567, 1 << 20)},
    layers=2,
    width=64,
    heads=4,
    kv_heads=2,
    head_dim=16,
    experts=0,
    experts_per_token=0,
    vocab_size=96,
    context_length=2048,
    sliding_window=512,
    kv_bytes_per_token={"f16": 256, "f32": 512},
    has_chat_template=False,
)


def plait(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["show", *arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"")
    monkeypatch.setattr(facts, "model_facts", lambda given: TINY if given == path else None)
    return str(path)


def test_experts_are_named_where_there_are_any(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\nexperts " not in plait(model).stdout
    sparse = replace(TINY, experts=64, experts_per_token=8)
    monkeypatch.setattr(facts, "model_facts", lambda given: sparse)
    assert "experts        64 a layer, of which a token meets 8\n" in plait(model).stdout


def test_a_model_in_words(model: str) -> None:
    text = plait(model).stdout
    for expected in (
        "Tiny[31m (gguf)",
        "llama, 2 layers of 64; 4 heads, 2 for keys and values, of 16",
        "1,234,567 in 3.0 MiB",
        "2,048 tokens, sliding window 512",
        "256 (f16), 512 (f32)",
        "no: it continues text",
        "7 tensors, 1,000,000 weights, 2.0 MiB",
        model,
    ):
        assert expected in text
    assert "\x1b" not in text


def test_a_model_as_json(model: str) -> None:
    record = json.loads(plait(model, "--json").stdout)
    assert record["parameters"] == 1_234_567
    assert record["formats"]["q4_0"] == {"tensors": 7, "parameters": 1_000_000, "bytes": 2 << 20}
    assert record["path"] == model


def test_hardware_in_both_forms() -> None:
    record = json.loads(plait("--hardware", "--json").stdout)
    assert record["isa"] == record["isas"][-1]
    assert record["threads"] >= 1
    assert record["memory_available"] <= record["memory"]
    text = plait("--hardware").stdout
    assert record["processor"] in text
    assert f"in use: {record['isa']}" in text


def test_a_model_and_the_machine_are_two_questions(model: str) -> None:
    result = CliRunner().invoke(app, ["show", model, "--hardware"])
    assert result.exit_code == 2
    assert "one of the two" in result.stderr


def test_hardware_reads_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "fetch", None)
    plait("--hardware")
