"""benchmarks/peers.py with engines that take the time they are told."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FAKE = """
import sys
sys.path.insert(0, {workers!r})
from protocol import serve

class Fake:
    def __init__(self, setting):
        if setting["refuses"]:
            raise ValueError("not this file")
        self.about = {{"work": setting["work"]}}
        self.seconds = setting["seconds"]
        print("chatter on stdout")

    def prepare(self):
        pass

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
        "absent": (str(script), None, {"seconds": 1.0, "refuses": True}),
    }
    monkeypatch.setattr(engines, "WORKERS", workers)
    monkeypatch.setattr(peers, "PAUSE", 0.0)
    monkeypatch.setattr("plait.weights.hub.resolve", lambda model: script)
    yield peers
    for name in ("engines", "peers", "workloads"):
        sys.modules.pop(name, None)


def arguments(tmp_path: Path, *workloads: str) -> argparse.Namespace:
    return argparse.Namespace(
        engines=["plait", "slow", "absent"],
        workloads=list(workloads),
        rounds=4,
        seconds=0.0,
        threads=2,
        home=tmp_path,
        results=tmp_path,
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
