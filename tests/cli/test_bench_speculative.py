"""`plait bench speculative`: a table, a record and a picture; prompts from a file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plait.cli import bench_speculative
from plait.cli.main import app
from plait.core.errors import UserError
from tests.llm.fakes import make_llm

FIELDS = {"speedup", "expected_gain", "draft_share", "draft_p99", "accepted", "tokens_per_forward"}


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    make_llm(monkeypatch).close()
    monkeypatch.setattr(bench_speculative, "fetch", lambda model, offline: None)


def test_every_kind_of_prompts_is_measured_and_written_down(tmp_path: Path) -> None:
    file = tmp_path / "Tasks.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"prompt": letter * 9}) + "\n" for letter in "abcdef")
    out, plot = tmp_path / "record.json", tmp_path / "picture.svg"
    command = ["bench", "speculative", "fake", "--tokens", "12", "--rounds", "2"]
    more = ["--prompts", str(file), "--items", "2", "--out", str(out), "--plot", str(plot)]
    result = CliRunner().invoke(app, [*command, *more], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text(encoding="utf-8"))
    kinds = ["code", "copy", "chat", "tasks", "random", "trap"]
    assert [(gain["workload"], gain["proposer"]) for gain in record["gains"]] == [
        (kind, proposer) for kind in kinds for proposer in ("lookahead", "auto")
    ]
    assert all(gain["is_equal"] and gain.keys() >= FIELDS for gain in record["gains"])
    assert record["load_average"]
    assert record["machine"]["isa"]
    assert "speed-up over plain decoding" in plot.read_text(encoding="utf-8")
    assert all(kind in result.output for kind in kinds)


def test_a_batch_is_filled() -> None:
    assert bench_speculative._filled(["a", "b"], 2) == ["a", "b"]
    assert bench_speculative._filled(["a", "b"], 4) == ["a", "b", "2\na", "3\nb"]


def test_kinds_are_chosen_and_unknown_ones_refused() -> None:
    assert bench_speculative._chosen(["trap", "code"], {}) == ["code", "trap"]
    with pytest.raises(UserError, match="no prompts called 'x'"):
        bench_speculative._chosen(["x"], {})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no prompt"),
        (b"\n\n", "no prompt"),
        (b"{}\n", "line 1 has no prompt"),
        (b'{"prompt": "a"}\n[1]\n', "line 2 has no prompt"),
        (b'{"prompt": 5}\n', "line 1 has no prompt"),
        (b"\xff\xfe\n", "cannot be read"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "file.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError, match=words):
        bench_speculative._read(file, 3)


@pytest.mark.parametrize("content", [b"nothing packed", gzip.compress(b'{"prompt": "a"}')[:-9]])
def test_a_damaged_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.jsonl.gz"
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        bench_speculative._read(file, 3)
    with pytest.raises(UserError, match="cannot be read"):
        bench_speculative._read(tmp_path / "missing", 3)
