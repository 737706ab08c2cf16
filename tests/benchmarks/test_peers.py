"""benchmarks/peers.py with engines that take the time they are told."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plait.analysis import roofline
from plait.engine.facts import Work

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FAKE = """
import sys, time
sys.path.insert(0, {workers!r})
from protocol import serve

class Fake:
    def __init__(self, setting):
        if setting["refuses"]:
            raise ValueError("not this file")
        self.about = {{"work": setting["work"]}}
        self.seconds = setting["seconds"]
        print("chatter on stdout")

        self.sleeps = setting.get("sleeps", 0)

    def prepare(self):
        time.sleep(self.sleeps)

    def round(self, seed):
        return self.seconds

serve(Fake)
"""


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import engines
    import peers

    script = tmp_path / "fake_worker.py"
    script.write_text(FAKE.format(workers=str(FOLDER / "workers")))
    workers = {
        "plait": (str(script), None, {"seconds": 0.5, "refuses": False}),
        "slow": (str(script), None, {"seconds": 2.0, "refuses": False}),
        "silent": (str(script), None, {"seconds": 1.0, "refuses": False, "sleeps": 60}),
        "absent": (str(script), None, {"seconds": 1.0, "refuses": True}),
    }
    monkeypatch.setattr(engines, "WORKERS", workers)
    monkeypatch.setattr(peers, "PAUSE", 0.0)
    monkeypatch.setattr("plait.weights.hub.resolve", lambda model: script)
    roof = roofline.Roof(roofline.Peaks(1e9, 1e9, 1 << 20), Work(10, 8, 5, 4, ()), "f16")
    monkeypatch.setattr(roofline, "roof", lambda path, config: (roof, "peaks"))
    return peers


def arguments(tmp_path: Path, *workloads: str) -> argparse.Namespace:
    return argparse.Namespace(
        engines=["plait", "slow", "absent"],
        workloads=list(workloads),
        rounds=4,
        seconds=0.0,
        threads=2,
        home=tmp_path,
        patience=30.0,
        results=tmp_path,
        isa="auto",
        kv="auto",
    )


def test_the_record_has_every_engine_and_why_one_is_missing(peers: Any, tmp_path: Path) -> None:
    peers.run("m", arguments(tmp_path, "decode-8"))
    record = json.loads((tmp_path / "peers-m.json").read_text())["workloads"]["decode-8"]
    tokens = 8 * 12
    assert record["engines"]["plait"]["samples"] == [tokens / 0.5] * 3  # the seconds were over
    assert record["engines"]["slow"]["median"] == tokens / 2
    assert record["ratio"] == {"slow": 4.0}
    assert record["not_available"] == {"absent": "not available: ValueError: not this file"}
    assert record["engines"]["plait"]["peak_rss"] > 1 << 20
    assert {"load_average", "steal_ticks", "machine", "date", "threads"} <= set(record)


def test_every_line_has_its_limit(peers: Any, tmp_path: Path) -> None:
    peers.run("m", arguments(tmp_path, "decode-8", "prefill-512"))
    works = json.loads((tmp_path / "peers-m.json").read_text())["workloads"]
    assert works["decode-8"]["limit"] == pytest.approx(8 / (8 * 15 / 1e9))
    assert works["prefill-512"]["limit"] == pytest.approx(512 / ((512 * 10 + 5) / 1e9), abs=0.01)


def test_an_engine_that_never_answers_is_ended(peers: Any, tmp_path: Path) -> None:
    given = arguments(tmp_path, "decode-8")
    given.engines, given.patience = ["silent"], 2.0
    peers.run("m", given)
    record = json.loads((tmp_path / "peers-m.json").read_text())["workloads"]["decode-8"]
    assert record["not_available"] == {"silent": "not available: silent gave no answer within 2 s"}


def test_engines_can_be_measured_one_after_the_other(peers: Any, tmp_path: Path) -> None:
    given = arguments(tmp_path, "decode-8")
    peers.run("m", given)
    given.engines = ["plait"]
    peers.run("m", given)
    record = json.loads((tmp_path / "peers-m.json").read_text())["workloads"]["decode-8"]
    assert set(record["engines"]) == {"plait", "slow"}
    assert (record["ratio"], record["ratios"]) == ({"slow": 4.0}, {"slow": [4.0] * 3})
    assert set(record["not_available"]) == {"absent"}


def test_an_interruption_ends_the_engines_and_keeps_what_was_measured(
    peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    engine = sys.modules["engines"].Engine
    monkeypatch.setattr(
        engine, "close", lambda self, close=engine.close: closed.append(close(self))
    )

    def interrupted(record: Any, seed: int) -> None:
        raise KeyboardInterrupt

    given = arguments(tmp_path, "decode-1", "decode-8")
    peers.run("m", argparse.Namespace(**{**vars(given), "workloads": ["decode-1"]}))
    closed.clear()
    monkeypatch.setattr(engine, "round", interrupted)
    with pytest.raises(KeyboardInterrupt):
        peers.run("m", given)
    assert len(closed) >= 2
    works = json.loads((tmp_path / "peers-m.json").read_text())["workloads"]
    assert list(works) == ["decode-1"]


def test_memory_counts_children(peers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER / "workers"))
    import protocol

    alone = protocol.peak_rss()
    child = subprocess.Popen(
        [sys.executable, "-c", "x = bytes(range(256)) * (1 << 18); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    assert protocol.peak_rss() - alone > 64 << 20
    child.communicate(b"\n")


def test_a_later_run_keeps_the_other_workloads(peers: Any, tmp_path: Path) -> None:
    peers.run("m", arguments(tmp_path, "prefill-512"))
    peers.run("m", arguments(tmp_path, "decode-1"))
    record = json.loads((tmp_path / "peers-m.json").read_text())
    assert list(record["workloads"]) == ["decode-1", "prefill-512"]


@pytest.mark.parametrize("model", ["smollm2-135m", "gemma3-270m"])
@pytest.mark.parametrize("rounds", [3, 7, 30])
def test_no_workload_outgrows_its_context(peers: Any, model: str, rounds: int) -> None:
    workloads = sys.modules["workloads"]
    for name, work in workloads.WORKLOADS.items():
        order = workloads.order(name, model, rounds)
        limit = workloads.LONGEST.get(model, 8192)
        grown = work.steps * (rounds + 1) if work.kind == "decode" else 0
        assert order["fill"] + grown <= order["capacity"] <= limit
        assert work.kind == "decode" or order["fill"] == work.context


@pytest.mark.parametrize(
    ("given", "told"),
    [("--isa avx2", "--isa avx2 --kv auto"), ("--kv int8", "--isa auto --kv int8")],
)
def test_an_engine_that_cannot_be_limited_is_refused(
    peers: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
    told: str,
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["peers.py", "m", *given.split(), "--engines", "plait", "llama.cpp"]
    )
    with pytest.raises(SystemExit) as found:
        peers.main()
    assert found.value.code == 2
    words = f"{told} cannot be kept by llama.cpp, only by plait, openvino"
    assert words in capsys.readouterr().err
