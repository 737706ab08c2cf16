"""`plait bench speculative`: a table, a record and a picture; prompts from a file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from plait.analysis import speculation, speculation_prompts
from plait.cli import bench_speculative
from plait.cli.main import app
from plait.core.errors import UserError
from tests.llm.fakes import make_llm

FIELDS = {"speedup", "expected_gain", "draft_share", "draft_p99", "accepted", "tokens_per_forward"}


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    make_llm(monkeypatch).close()
    monkeypatch.setattr(bench_speculative, "fetch", lambda model, offline: None)


def bench(*more: str) -> Result:
    command = ["bench", "speculative", "fake", "--tokens", "12"]
    return CliRunner().invoke(app, [*command, *more], catch_exceptions=False)


def test_every_kind_of_prompts_is_measured_and_written_down(tmp_path: Path) -> None:
    file = tmp_path / "Tasks.jsonl.gz"
    with gzip.open(file, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"prompt": letter * 9}) + "\n" for letter in "abcdef")
    out, plot = tmp_path / "record.json", tmp_path / "picture.svg"
    more = ["--prompts", str(file), "--items", "2", "--out", str(out), "--plot", str(plot)]
    result = bench("--rounds", "2", *more)
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text(encoding="utf-8"))
    kinds = ["code", "copy", "chat", "tasks", "random", "trap"]
    assert sorted((gain["workload"], gain["way"]) for gain in record["gains"]) == sorted(
        (kind, way) for kind in kinds for way in ("lookahead", "auto")
    )
    assert all(gain["is_equal"] and gain.keys() >= FIELDS for gain in record["gains"])
    assert {gain["rounds"] for gain in record["gains"]} == {2}
    assert record["pieces"][0]["load_average"]
    assert record["machine"]["isa"]
    assert "speed-up over plain decoding" in plot.read_text(encoding="utf-8")
    assert all(kind in result.output for kind in kinds)


def test_a_measurement_is_made_in_pieces_and_every_round_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "record.json"
    more = ["--only", "code", "--only", "copy", "--rounds", "2", "--out", str(out)]
    whole, measure = 2 * (3 + 3), speculation.measure
    calls = 0

    def tired(*args: Any, **given: Any) -> list[speculation.Run]:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise RuntimeError("stopped")
        return measure(*args, **given)

    monkeypatch.setattr(speculation, "measure", tired)
    with pytest.raises(RuntimeError, match="stopped"):
        bench(*more)
    runs = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert len(runs) == 4 * len(("none", "lookahead", "auto"))
    assert (
        bench(*more, "--minutes", "1e-9").exit_code == 0
    )  # the first of a command is never too long
    assert bench(*more).exit_code == 0
    assert calls == 5 + whole - 4
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["runs"][: len(runs)] == runs
    assert len({(run["workload"], run["group"], run["turn"]) for run in record["runs"]}) == whole
    assert [piece["runs"] for piece in record["pieces"]] == [12, 3, 3 * (whole - 5)]
    assert bench(*more).exit_code == 0
    assert calls == 5 + whole - 4, "nothing was left to measure"


def test_other_measurements_are_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    more = ["--only", "code", "--rounds", "1", "--out", str(out)]
    assert bench(*more).exit_code == 0
    for other in (["--sweep", "2"], ["--tokens", "13"], ["--max-num-seqs", "3"]):
        result = bench(*more, *other)
        assert result.exit_code == 2
        assert "was measured with other" in result.output
    assert bench("--only", "chat", "--rounds", "1", "--out", str(out)).exit_code == 0
    record = json.loads(out.read_text(encoding="utf-8"))
    assert {run["workload"] for run in record["runs"]} == {"code", "chat"}
    assert bench(*more, "--tokens", "13", "--fresh").exit_code == 0
    for content in ("[]", '{"runs": [{}]}', "nothing"):
        out.write_text(content, encoding="utf-8")
        assert "no rounds to go on with" in bench(*more).output


def test_what_is_chosen_is_compared_with_a_sweep_of_widths_and_batches(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    sizes = ["--batch", "1", "--batch", "2", "--sweep", "4", "--sweep", "1"]
    result = bench("--only", "copy", "--rounds", "1", *sizes, "--out", str(out))
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["ways"] == ["lookahead 1", "lookahead 4", "lookahead", "auto"]
    assert [choice["batch"] for choice in record["choices"]] == [1, 2]
    for choice in record["choices"]:
        own = {
            gain["way"]: gain["speedup"]
            for gain in record["gains"]
            if gain["batch"] == choice["batch"]
        }
        assert choice["automatic"] == own.pop("auto")
        assert choice["speedup"] == max(1.0, *own.values())
    assert "of it" in result.output
    assert "width=17 is out of range" in bench("--sweep", "17").output


def test_a_batch_is_filled() -> None:
    assert speculation_prompts.filled(["a", "b"], 2) == ["a", "b"]
    assert speculation_prompts.filled(["a", "b"], 4) == ["a", "b", "2\na", "3\nb"]


def test_kinds_are_chosen_and_unknown_ones_refused() -> None:
    assert speculation_prompts.chosen(["trap", "code"], {}) == ["code", "trap"]
    with pytest.raises(UserError, match="no prompts called 'x'"):
        speculation_prompts.chosen(["x"], {})


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
        speculation_prompts.read(file, 3)


@pytest.mark.parametrize("content", [b"nothing packed", gzip.compress(b'{"prompt": "a"}')[:-9]])
def test_a_damaged_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.jsonl.gz"
    file.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        speculation_prompts.read(file, 3)
    with pytest.raises(UserError, match="cannot be read"):
        speculation_prompts.read(tmp_path / "missing", 3)
