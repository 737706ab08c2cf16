"""benchmarks/serve_peers.py with servers that say a known number of tokens."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FAKE = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(json.dumps({"data": [{"id": "m"}]}).encode())

    def do_POST(self):
        tokens = json.loads(self.rfile.read(int(self.headers["content-length"])))["max_tokens"]
        chunks = [{"choices": [{"text": "x"}]}] * tokens
        chunks.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})
        events = [f"data: {json.dumps(chunk)}" for chunk in chunks]
        self.answer("\\n\\n".join([*events, "data: [DONE]", ""]).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import serve_peers
    import servers

    script = tmp_path / "server.py"
    script.write_text(FAKE)
    commands = {
        "plait": lambda setting, port: [sys.executable, str(script), str(port)],
        "other": lambda setting, port: [sys.executable, str(script), str(port)],
        "absent": lambda setting, port: [sys.executable, "-c", "raise SystemExit(3)"],
        "silent": lambda setting, port: [sys.executable, "-c", "import time; time.sleep(60)"],
    }
    monkeypatch.setattr(servers, "SERVERS", commands)
    monkeypatch.setattr(serve_peers, "PAUSE", 0.0)
    monkeypatch.setattr("plait.weights.hub.resolve", lambda model: script)
    return serve_peers


def arguments(tmp_path: Path, **fields: Any) -> argparse.Namespace:
    usual = {"servers": ["plait", "other"], "loads": ["streams"], "rounds": 2, "slots": 2}
    rest = {"context": 64, "threads": 1, "patience": 20.0, "home": tmp_path, "results": tmp_path}
    return argparse.Namespace(**{**usual, **rest, **fields})


def test_every_server_gets_the_same_load_in_every_round(bench: Any, tmp_path: Path) -> None:
    bench.run("m", arguments(tmp_path, servers=["plait", "other", "absent"]))
    record = json.loads((tmp_path / "serve-m.json").read_text())["loads"]["streams"]
    assert set(record["servers"]) == {"plait", "other"}
    assert record["not_available"] == {"absent": "not available: absent stopped with code 3"}
    assert [len(one["samples"]) for one in record["servers"].values()] == [2, 2]
    assert all(one["errors"] == {} for one in record["servers"].values())
    assert record["ratio"].keys() == {"other"}
    assert record["load"]["concurrency"] == 2


def test_a_run_keeps_the_loads_that_it_did_not_measure(bench: Any, tmp_path: Path) -> None:
    kept = {"model": "m", "loads": {"poisson": {"kept": 1}}}
    (tmp_path / "serve-m.json").write_text(json.dumps(kept))
    bench.run("m", arguments(tmp_path, servers=["plait"], rounds=1))
    loads = json.loads((tmp_path / "serve-m.json").read_text())["loads"]
    assert loads["poisson"] == {"kept": 1}
    assert loads["streams"]["ratio"] == {}


def test_a_server_that_says_nothing_is_ended(bench: Any, tmp_path: Path) -> None:
    from engines import NotAvailableError
    from servers import Server

    with pytest.raises(NotAvailableError, match="no answer within 0 s"):
        Server("silent", setting(bench), 0.3)
    with pytest.raises(ChildProcessError):  # no child is left
        os.waitpid(-1, os.WNOHANG)


def setting(bench: Any) -> Any:
    return bench.Setting("m", Path("m"), 1, 1, 1, Path())


def test_medians_and_ratios_are_those_of_the_rounds(bench: Any) -> None:
    def one(rate: float, first: float, errors: dict[str, Any]) -> dict[str, Any]:
        times = {"p50": first}
        named = dict.fromkeys(bench.TIMES, times)
        return {"tokens_per_second": rate, "requests_per_second": 1.0, "errors": errors, **named}

    ours = [
        one(10, 1.0, {}),
        one(30, 3.0, {"429": {"count": 2}}),
        one(20, 2.0, {"429": {"count": 1}}),
    ]
    theirs = [one(5, 1.0, {}), one(10, 1.0, {}), one(10, 1.0, {})]
    found = bench.medians(ours)
    assert (found["tokens_per_second"], found["errors"]) == (20, {"429": 3})
    assert found["time_to_first_token"] == {"p50": 2.0}
    assert bench.ratios({"plait": ours, "other": theirs}) == {"other": 2.0}
    failed = [{**one(0, 0, {}), "time_to_first_token": {}}]
    assert bench.medians(failed)["time_to_first_token"] == {}
