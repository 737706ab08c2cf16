"""benchmarks/speculative_peers.py with servers that answer at once."""

from __future__ import annotations

import argparse
import json
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
        self.answer({})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        count = asked["max_tokens"] - (asked["prompt"] == "short")
        text = "x" * count + ("y" if "--wrong" in sys.argv else "")
        self.answer({
            "choices": [{"text": text}],
            "usage": {"completion_tokens": count},
            "timings": {"draft_n": 3, "draft_n_accepted": 2},
        })

    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import servers
    import speculative_peers

    script = tmp_path / "server.py"
    script.write_text(FAKE)

    def good(setting: Any, port: int) -> list[str]:
        return [sys.executable, str(script), str(port)]

    monkeypatch.setattr(servers, "SERVERS", {"plait": good, "llama.cpp": good})
    monkeypatch.setattr(speculative_peers, "PAUSE", 0.0)
    monkeypatch.setattr("plait.weights.hub.resolve", lambda model: script)
    ways = {
        **{name: speculative_peers.WAYS[name] for name in ("plait", "plait auto", "llama.cpp")},
        "llama.cpp draft": speculative_peers.Way("llama.cpp", ("--wrong", "{draft}", "{threads}")),
    }
    monkeypatch.setattr(speculative_peers, "WAYS", ways)
    return speculative_peers


def arguments(bench: Any, tmp_path: Path, **fields: Any) -> argparse.Namespace:
    usual = {"model": "m", "draft": "d", "prompts": None, "items": 1, "only": ["code"]}
    more = {"ways": list(bench.WAYS), "batch": [1, 2], "tokens": 7, "rounds": 2, "minutes": 0}
    rest = {"context": 64, "threads": 1, "home": tmp_path}
    return argparse.Namespace(**{**usual, **more, **rest, **fields})


def table(bench: Any, tmp_path: Path, tokens: int = 7) -> Any:
    return bench.Table(tmp_path / "record.json", {"tokens": tokens}, fresh=False)


def test_every_way_answers_in_every_round_and_a_run_goes_on(bench: Any, tmp_path: Path) -> None:
    bench.run(arguments(bench, tmp_path, rounds=1), table(bench, tmp_path))
    before = json.loads((tmp_path / "record.json").read_text())["rows"]
    bench.run(arguments(bench, tmp_path), table(bench, tmp_path))
    record = json.loads((tmp_path / "record.json").read_text())
    assert set(record["rows"]) == {"code, batch 1", "code, batch 2"}
    assert len(record["rows"]["code, batch 1"]) == 2 * 3
    assert len(record["rows"]["code, batch 2"]) == 2
    assert all(row.keys() == bench.WAYS.keys() for row in record["rows"]["code, batch 1"].values())
    for kind, rows in before.items():
        assert rows.items() <= record["rows"][kind].items()
    draft = record["ways"]["code, batch 1"]["llama.cpp draft"]
    assert draft["accepted_of_drafted"] == [12, 18]
    assert draft["same_as_without"] == "0 of 6"
    assert record["ways"]["code, batch 1"]["plait auto"]["same_as_without"] == "6 of 6"
    assert record["ways"]["code, batch 1"]["plait auto"]["plait_auto_is_faster"] == 1


def test_ratios_pair_the_rounds(bench: Any) -> None:
    rows = {
        str(turn): {"plait auto": [own, 0, 0, True], "llama.cpp": [other, 4, 3, True]}
        for turn, (own, other) in enumerate([(1.0, 2.0), (4.0, 4.0), (1.0, 3.0)])
    }
    found = bench.summary(rows, 10)
    assert found["llama.cpp"]["plait_auto_is_faster"] == 2
    assert found["llama.cpp"]["ms_per_token"] == 300


def test_an_answer_of_another_length_is_no_measurement(bench: Any, tmp_path: Path) -> None:
    given = arguments(bench, tmp_path, batch=[1], rounds=1)
    file = tmp_path / "short.jsonl"
    file.write_text(json.dumps({"prompt": "short"}))
    given.prompts, given.only = file, []
    with pytest.raises(RuntimeError, match="not 2"):
        bench.run(given, table(bench, tmp_path))


def test_another_measurement_is_not_gone_on_with(bench: Any, tmp_path: Path) -> None:
    bench.run(arguments(bench, tmp_path, rounds=1), table(bench, tmp_path))
    with pytest.raises(SystemExit, match="other tokens"):
        table(bench, tmp_path, 8)
