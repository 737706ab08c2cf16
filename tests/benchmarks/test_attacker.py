"""benchmarks/attacker.py with a server that takes longer for everybody while long prompts are under way."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FAKE = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEYS = [word for word in sys.argv if word.startswith(("victim", "fourth"))]

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer([json.dumps({"data": [{"id": "m"}]}).encode()])

    def do_POST(self):
        key = self.headers["authorization"].removeprefix("Bearer ")
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_long = len(body["prompt"].split()) >= 1200
        assert key in KEYS and not (is_long and key != "fourth")
        self.answer(self.pieces(4000 if is_long else 4))

    def pieces(self, tokens):
        for _ in range(tokens):
            time.sleep(0.005)
            yield self.event({"choices": [{"text": "x"}]})
        yield self.event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})
        yield b"data: [DONE]\\n\\n"

    def event(self, chunk):
        return f"data: {json.dumps(chunk)}\\n\\n".encode()

    def answer(self, pieces):
        self.send_response(200)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:  # the attacker has hung up
            pass

ThreadingHTTPServer.request_queue_size = 64
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import attacker
    import servers

    script = tmp_path / "server.py"
    script.write_text(FAKE)
    command = {"plait": lambda setting, port: [sys.executable, str(script), str(port)]}
    monkeypatch.setattr(servers, "SERVERS", command)
    monkeypatch.setattr(attacker, "PAUSE", 0.0)
    return attacker


def test_every_turn_is_measured_and_the_attack_ends_with_it(bench: Any, tmp_path: Path) -> None:
    """The attacker's answers would take far longer than the test may: it must hang up."""
    sizes = {"clients": 2, "flood": 5, "slots": 4, "context": 2000, "threads": 1}
    times = {"seconds": 0.6, "warm": 0.1, "patience": 20.0, "rounds": 2}
    args = argparse.Namespace(model="m", **sizes, **times)
    setting = bench.Setting("m", Path("m"), 1, 1, 1, tmp_path)
    keys = [word for key in (*bench.VICTIMS, bench.FOURTH) for word in ("--api-key", key)]
    server = bench.Server("plait", setting, 20.0, keys)
    try:
        record = bench.measure(server, args)
    finally:
        server.close()
    turns = record["turns"]
    assert turns.keys() == {"alone", "fair", "attack", "swarm"}
    assert all(turn["requests"] > 3 and not turn["errors"] for turn in turns.values())
    assert record["attacker_answers"]["attack"] == 0
    for name in ("attack", "swarm"):
        assert [len(record["ratio"][name][key]) for key in ("each", "rounds")] == [3, 2]
    assert not record["is_paced"]
    assert "TPOT p50" in bench.row("fair", turns["fair"])


def samples(bench: Any, *each: float) -> list[Any]:
    """Answers of eleven tokens with so many seconds per token, one begun per second."""
    return [
        bench.Sample(place, place, times=[place + 0.5, place + 0.5 + 10 * one], tokens=11)
        for place, one in enumerate(each)
    ]


def test_figures_are_those_of_answers_after_the_warm_up(bench: Any) -> None:
    own = {"a": samples(bench, 9.0, 0.1, 0.1), "b": samples(bench, 9.0, 0.3, 0.3)}
    own["a"].append(bench.Sample(3.0, 3.0, error="429"))
    found = bench.figures(own, warm=1.0)
    assert (found["requests"], found["errors"]) == (4, 1)
    assert found["p99_of_each"] == pytest.approx([0.1, 0.3])
    assert found["time_per_output_token"]["p50"] == pytest.approx(0.2)
    assert found["time_to_first_token"]["max"] == pytest.approx(0.5)
    twice = bench.figures({"a": samples(bench, 9.0, 0.4, 0.4)}, warm=1.0)
    both = {"p99_of_each": [0.4]}
    found, twice = {**found, **both}, {**twice, **both}
    ratios = bench.ratios(twice, found, [0.4, 0.6], [0.2, 0.2])
    assert (ratios["median"], ratios["each"], ratios["rounds"]) == (2.0, [1.0], [2.0, 3.0])
    with pytest.raises(SystemExit, match="no answer"):
        bench.figures({"a": samples(bench, 9.0)}, warm=1.0)
