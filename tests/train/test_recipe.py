"""Training goes on after a stop as if there had been none, and Plait reads a checkpoint as torch does."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train`")

from train.body import Body, Shape  # noqa: E402
from train.recipe import Recipe, Run, continued  # noqa: E402

from plait import LLM, SamplingParams  # noqa: E402
from train import export, losses, trimode  # noqa: E402

SHAPE = Shape(len(trimode.ALPHABET), width=32, layers=2, heads=2, feed_forward=48)
RECIPE = Recipe(
    SHAPE,
    functools.partial(losses.trimode_loss, size=4),
    steps=6,
    warm_up=2,
    every=2,
)
PROMPT = "r407=1"
"""Its last token lies inside a block."""
LENGTH = 11


def weights(run: Run) -> dict[str, Any]:
    return {**run.model.state_dict(), **{f"mean.{k}": v for k, v in run.mean.items()}}


def test_a_run_that_was_stopped_has_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    whole = Run(RECIPE, tmp_path / "whole")
    whole.train()
    Run(RECIPE, tmp_path / "stopped").train(until=3)
    resumed = Run(RECIPE, tmp_path / "stopped")
    assert resumed.step == 3
    before = weights(Run(RECIPE, tmp_path / "new"))
    resumed.train()
    assert resumed.step == whole.step == 6
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert not torch.equal(before["output.weight"], weights(whole)["output.weight"])
    steps = [[entry["step"] for entry in run.curve] for run in (whole, resumed)]
    assert steps == [[2, 4, 6], [2, 3, 4, 6]]


def test_a_run_goes_on_with_what_another_ended_with(tmp_path: Path) -> None:
    first = Run(RECIPE, tmp_path / "first")
    first.train(until=2)
    start = functools.partial(continued, run=tmp_path / "first")
    second = Run(dataclasses.replace(RECIPE, start=start, seed=9), tmp_path / "second")
    assert second.step == 0
    for name, value in first.mean.items():
        assert torch.equal(second.model.state_dict()[name], value.half().float()), name
    second.train(until=2)
    curve = export.joined([first.curve, second.curve, first.curve])
    assert [entry["step"] for entry in curve] == [2, 4, 6]
    assert curve[0] == first.curve[0]
    assert [entry["loss"] for entry in curve[1:]] == [second.curve[0]["loss"], curve[0]["loss"]]


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [Recipe(SHAPE, RECIPE.loss, steps=1000).rate_at(step) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-5)
    assert set(rates[100:700]) == {2e-3}
    assert rates[-1] == pytest.approx(2e-3 / 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights, large enough that answers vary."""
    place = tmp_path_factory.mktemp("trimode")
    run = Run(RECIPE, place / "run")
    for value in run.mean.values():
        value.copy_(torch.randn(value.shape) * (0.4 if value.ndim == 2 else 1.0))
        value.copy_(value.half())
    torch.save({"mean": run.mean, "curve": []}, place / "run" / "state.pt")
    config = {**export.llama_config(SHAPE, 64), "model_type": "trimode", "block_size": 4}
    export.export(place / "run", place / "model", trimode.ALPHABET, config, export.LLAMA)
    return place / "model"


@pytest.fixture(scope="module")
def body(folder: Path) -> Body:
    found = Body(SHAPE)
    found.load_state_dict(torch.load(folder.parent / "run" / "state.pt", weights_only=True)["mean"])
    return found


def open_blocks(rows: int) -> np.ndarray:
    block = np.arange(rows) // trimode.BLOCK
    return block[:, None] >= block[None, :]


def greedy(body: Body, sees: np.ndarray, allowed: Callable[[list[int]], list[int]]) -> list[int]:
    """The surest of the masked positions that are allowed, one in a step, until none is masked."""
    mask = trimode.ALPHABET.index(trimode.MASK)
    tokens = np.array([*trimode.ids(PROMPT), *[mask] * LENGTH])
    rows = len(tokens)
    sees = torch.from_numpy(sees[:rows, :rows])[None, None]
    while (tokens == mask).any():
        with torch.no_grad():
            logits = body(torch.from_numpy(tokens)[None], torch.arange(rows), sees)[0]
        logits[:, mask] = -torch.inf
        best, token = logits.softmax(-1).max(-1)
        places = allowed(np.flatnonzero(tokens == mask).tolist())
        place = max(places, key=lambda each: float(best[each]))
        tokens[place] = token[place]
    return tokens[-LENGTH:].tolist()


def by_torch(body: Body, planner: str) -> list[int]:
    rows = len(PROMPT) + LENGTH
    if planner == "canvas":
        return greedy(body, np.ones((rows, rows), bool), lambda places: places)
    whole = -(-rows // trimode.BLOCK) * trimode.BLOCK
    return greedy(
        body,
        open_blocks(whole),
        lambda places: [p for p in places if p // trimode.BLOCK == places[0] // trimode.BLOCK],
    )


def next_tokens(body: Body) -> list[int]:
    tokens = trimode.ids(PROMPT)
    for _ in range(LENGTH):
        sees = torch.ones(len(tokens), len(tokens)).tril().bool()[None, None]
        with torch.no_grad():
            logits = body(torch.tensor(tokens)[None], torch.arange(len(tokens)), sees)[0, -1]
        tokens.append(int(logits.argmax()))
    return tokens[len(PROMPT) :]


@pytest.mark.parametrize("planner", ["autoregressive", "block", "canvas"])
def test_plait_reads_a_checkpoint_as_torch_does_in_every_mode(
    folder: Path, body: Body, planner: str
) -> None:
    options = {} if planner == "autoregressive" else {"threshold": "2"}
    if planner == "canvas":
        options["block_size"] = "32"
    llm = LLM(model=folder, planner=planner, activations="f32", threads=1, options=options)
    params = SamplingParams(temperature=0.0, max_tokens=LENGTH, ignore_eos=True)
    found = list(llm.generate([PROMPT], params)[0].outputs[0].token_ids)
    assert found == (next_tokens(body) if planner == "autoregressive" else by_torch(body, planner))
    assert len(set(found)) > 3


def test_a_stretch_is_one_piece_of_what_is_open() -> None:
    is_open = np.zeros((200, 12), np.bool_)
    is_open[:, 3:9] = True
    hidden = losses.hide_stretch(np.random.default_rng(5), is_open)
    assert not (hidden & ~is_open).any()
    assert set(hidden.sum(1)) == {1, 2, 3, 4, 5, 6}
    begins = (np.diff(hidden.astype(int), prepend=0, axis=1) == 1).sum(1)
    assert (begins == 1).all()
    assert hidden.any(0)[3:9].all()
