"""benchmarks/diffusion_peers.py with engines that answer what they are told."""

from __future__ import annotations

import argparse
import json
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
        self.about = {{}}
        self.seconds = setting["seconds"]
        self.found = {{"tokens": [setting["token"]] * 64, "fed": setting["fed"]}}

    def prepare(self):
        pass

    def round(self, seed):
        return self.seconds

serve(Fake)
"""
DUAL = ([192] + [32] * 7) * 2


@pytest.fixture
def diffusion_peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import diffusion_peers

    monkeypatch.setattr(diffusion_peers, "PAUSE", 0.0)
    return diffusion_peers


def run(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **engines: Any) -> Any:
    """engines: by name with _ for -, what each is told."""
    script = tmp_path / "fake_worker.py"
    script.write_text(FAKE.format(workers=str(FOLDER / "workers")))
    names = {name.replace("_", "-"): options for name, options in engines.items()}
    workers = {name: (str(script), None, {"fed": DUAL, **own}) for name, own in names.items()}
    monkeypatch.setattr(module, "ENGINES", workers)
    args = argparse.Namespace(
        methods=["dual"],
        engines=list(workers),
        rounds=4,
        seconds=0.0,
        threads=2,
        home=tmp_path,
        patience=30.0,
        results=tmp_path,
    )
    module.run({"threads": 2}, args)
    return json.loads((tmp_path / "diffusion-llada.json").read_text())["methods"]["dual"]


def test_plait_is_compared_with_the_fastest_peer(
    diffusion_peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run(
        diffusion_peers,
        tmp_path,
        monkeypatch,
        plait_bf16={"seconds": 1.0, "token": 5},
        torch_f32={"seconds": 3.0, "token": 5},
        torch_bf16={"seconds": 9.0, "token": 6},
    )
    assert record["peer"] == "torch-f32"
    assert record["ratio"] == {"plait-bf16": 3.0}
    assert record["ratios"] == {"plait-bf16": [3.0] * 3}  # the seconds were over
    assert record["engines"]["plait-bf16"]["median"] == 64.0
    assert record["same_tokens"] == "192 of 192"
    assert (record["forwards"], record["positions"]) == (16, sum(DUAL))
    assert record["position_efficiency"] == pytest.approx(64 / 832, abs=1e-4)


def test_other_tokens_are_told(
    diffusion_peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"seconds": 1.0, "token": 5}
    record = run(
        diffusion_peers, tmp_path, monkeypatch, plait_bf16=told, torch_f32={**told, "token": 6}
    )
    assert record["same_tokens"] == "0 of 192"


def test_whoever_feeds_other_positions_ends_the_run(
    diffusion_peers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"seconds": 1.0, "token": 5, "fed": [192] * 16}
    with pytest.raises(RuntimeError, match="torch-f32, dual"):
        run(diffusion_peers, tmp_path, monkeypatch, torch_f32=told)


def test_the_checkpoint_has_llada_s_names(diffusion_peers: Any) -> None:
    import diffusion_checkpoint

    names = diffusion_checkpoint.shapes()
    layers = diffusion_checkpoint.LAYERS
    assert len(names) == 9 * layers + 3
    assert names["model.transformer.blocks.0.ff_out.weight"] == (1024, 3072)
    assert sum(diffusion_checkpoint.parameters().values()) > 300e6
