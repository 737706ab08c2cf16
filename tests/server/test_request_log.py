"""The log of requests: what it says, what it does not, and how large it gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plait import LLM
from plait.core.errors import UserError
from plait.server.request_log import RequestLog
from plait.server.settings import ServerConfig
from tests.server.conftest import MODEL
from tests.server.running import running, served

SECRET = "Once upon a midnight"


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_it_never_holds_more_than_it_may(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for _ in range(2):  # the second goes on where the first ended
        log = RequestLog(file, 10_000)
        for number in range(300):
            log.write({"number": number})
            assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= 10_000
        log.close()
    assert {one.name for one in tmp_path.iterdir()} == {"log", "log.1"}
    numbers = [line["number"] for one in ("log.1", "log") for line in lines(tmp_path / one)]
    assert len(numbers) > 90
    assert numbers[-90:] == list(range(210, 300))
    assert file.stat().st_mode & 0o077 == 0


def test_a_body_that_is_too_long_is_left_out_and_its_size_said(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log", 10_000)
    log.write({}, b"short \xff")
    log.write({}, b"x" * 6000)
    log.close()
    short, long = lines(tmp_path / "log")
    assert short["body"] == "short \N{REPLACEMENT CHARACTER}"
    assert (long["body"], long["body_bytes"]) == (None, 6000)


def test_a_disk_that_fails_costs_lines_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    log = RequestLog(folder / "log", 8192)
    (folder / "log").unlink()
    folder.rmdir()
    for _ in range(200):
        log.write({"some": "thing" * 10})
    assert caplog.text.count("requests are not logged") == 1
    log.close()


def test_a_place_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written") as caught:
        RequestLog(tmp_path / "no" / "log", 8192)
    assert "--request-log" in caught.value.hint


@pytest.mark.parametrize(
    "settings", [{"log_requests": 100}, {"log_requests": -1}, {"log_prompts": True}]
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        ServerConfig(**settings)


@pytest.mark.parametrize("log_prompts", [False, True])
def test_what_a_server_writes(llm: LLM, tmp_path: Path, log_prompts: bool) -> None:
    file = tmp_path / "log"
    settings: dict[str, Any] = {
        "log_requests": 1 << 20,
        "request_log": file,
        "log_prompts": log_prompts,
        "api_keys": ("key-1",),
    }
    key = {"Authorization": "Bearer key-1"}
    body = {"prompt": SECRET, "max_tokens": 3, "ignore_eos": True}
    with running(lambda: served(llm, MODEL), **settings) as server:
        server.ready()
        assert server.post("/v1/completions", body, **key).status_code == 200
        assert server.post("/v1/completions", {"prompt": SECRET, "n": 0}, **key).status_code == 400
        assert server.post("/v1/completions", body).status_code == 401
        server.http.get("/v1/models", headers=key)
    good, bad, stranger = lines(file)
    assert (good["path"], good["status"], good["tokens"]) == ("/v1/completions", 200, 3)
    assert good["prompt_tokens"] > 0
    assert (bad["status"], stranger["status"]) == (400, 401)
    assert "key" in good
    assert "key" not in stranger
    assert "key-1" not in file.read_text()
    assert (SECRET in file.read_text()) == log_prompts
    if log_prompts:
        assert json.loads(good["body"]) == body
