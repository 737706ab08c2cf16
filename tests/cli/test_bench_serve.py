"""`plait bench serve`: the command around the load generator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plait.cli import bench_record
from plait.cli.main import app
from tests.analysis.test_load import ANSWER, HEAD, serving

HERE = {"threads": 2, "isa": "generic"}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_record, "machine", lambda: HERE)


def test_a_load_is_shown_and_written(tmp_path: Path) -> None:
    out = tmp_path / "serve.json"
    with serving(lambda body: [HEAD + b"\r\n", *ANSWER]) as (server, address):
        where = f"127.0.0.1:{address.port}"
        options = ["--model", "m", "--rate", "200", "--requests", "5", "--tokens", "3"]
        result = CliRunner().invoke(app, ["bench", "serve", where, *options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert f"m at {where}" in result.stdout
    assert "5 of 5 answered" in result.stdout
    assert "TTFT" in result.stdout
    assert "arrivals" in result.stdout
    assert {body["max_tokens"] for body in server.bodies} == {3}
    record = json.loads(out.read_text())
    assert (record["bench"], record["model"], record["machine"]) == ("serve", "m", HERE)
    assert (record["load"]["rate"], record["tokens"], record["answered"]) == (200.0, 15, 5)


def test_errors_are_counted_by_kind() -> None:
    refusal = b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nnot ready"
    with serving(lambda body: [refusal]) as (_, address):
        options = ["--model", "m", "--concurrency", "2", "--requests", "4"]
        result = CliRunner().invoke(app, ["bench", "serve", f"127.0.0.1:{address.port}", *options])
    assert result.exit_code == 0, result.output
    assert "0 of 4 answered" in result.stdout
    assert "4 x 503  not ready" in result.stdout
    assert "TTFT" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "how much load?"),
        (["--rate", "1", "--concurrency", "1"], "either a rate or a concurrency"),
        (["http://example.org", "--rate", "1"], "not a plain HTTP server on this machine"),
    ],
)
def test_what_makes_no_load_is_refused(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["bench", "serve", *arguments])
    assert result.exit_code == 2
    assert said in result.output
