"""Compares Plait with the committed fixtures of an independent implementation (fixtures/oracle)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from plait.core.config import PAGE, EngineConfig
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import KVView, Window
from plait.runner.load import Loaded, load
from plait.weights import hub

FIXTURES = Path(__file__).parent / "fixtures" / "oracle"
MODELS = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
CHUNK = 256
NEAR = 1e-3
"""Two best logits closer than this are a tie that float32 summation order may decide."""


def fixture(model: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{model}.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def prompts(data: dict[str, np.ndarray]) -> list[np.ndarray]:
    ends = data["prompt_offsets"]
    return [data["prompt_ids"][a:b] for a, b in zip(ends, ends[1:], strict=False)]


def open_model(model: str, activations: str, **fields: Any) -> Loaded:
    config = EngineConfig(model=model, activations=activations, max_model_len=2048, **fields)
    return load(config, hub.resolve(model))


def rows(loaded: Loaded, ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Logits float32 [len(wanted), vocab] at ascending positions of one canvas, computed in chunks."""
    pages = [loaded.pool.allocate() for _ in range(-(-len(ids) // PAGE))]
    sequence = Sequence(0, np.asarray(ids, np.int32), SamplingParams(), limit=len(ids), seed=0)
    found = []
    for start in range(0, len(ids), CHUNK):
        end = min(start + CHUNK, len(ids))
        inside = wanted[(wanted >= start) & (wanted < end)] - start
        window = Window(start, end, rows=inside.astype(np.int32))
        view = KVView(np.array(pages[: -(-end // PAGE)], np.int32))
        found.append(loaded.runner.forward([StepInput(sequence, window, view)])[0].copy())
    for page in pages:
        assert page is not None
        loaded.pool.release(page)
    return np.concatenate(found)


@dataclass
class Comparison:
    """worst_logit: largest |difference| over the checked ids at three positions of each prompt and along
    the greedy continuations, without the noisy steps. noisy: (prompt, step, |difference|, noise) of those
    where two ways to run the independent implementation itself (the prompt at once, or token by token
    with its cache) differ by NEAR / 2 or more, which is their noise. steps: greedy steps compared; equal: of which our best id is theirs; ties:
    of the others, those whose two best logits lie within NEAR in the fixture."""

    worst_logit: float = 0.0
    worst_logsumexp: float = 0.0
    steps: int = 0
    equal: int = 0
    ties: int = 0
    noisy: list[tuple[int, int, float, float]] = field(default_factory=list)

    def add(self, difference: np.ndarray) -> None:
        self.worst_logit = max(self.worst_logit, float(np.abs(difference).max()))


def compare(loaded: Loaded, data: dict[str, np.ndarray], indices: range) -> Comparison:
    """Teacher-forced along the fixture's own continuation, so that a tie does not hide later steps."""
    result = Comparison()
    for i in indices:
        prompt, greedy = prompts(data)[i], data["greedy_ids"][i]
        canvas = np.concatenate([prompt, greedy[:-1]])
        places = data["positions"][i]
        along = np.arange(len(prompt) - 1, len(canvas))
        wanted = np.unique(np.concatenate([places, along]))
        logits = rows(loaded, canvas, wanted)
        for p, place in enumerate(places):
            row = logits[np.searchsorted(wanted, place)]
            result.add(row[data["top_ids"][i, p]] - data["top_logits"][i, p])
            result.add(row[data["random_ids"][i, p]] - data["random_logits"][i, p])
            wide = row.astype(np.float64)
            total = np.log(np.exp(wide - wide.max()).sum()) + wide.max()
            gap = abs(total - data["logsumexp"][i, p])
            result.worst_logsumexp = max(result.worst_logsumexp, float(gap))
        steps = logits[np.searchsorted(wanted, along)]
        gaps = np.abs(steps[np.arange(len(greedy)), greedy] - data["greedy_logits"][i])
        noise = data["greedy_noise"][i]
        result.add(gaps[noise < NEAR / 2])
        for step in np.flatnonzero(noise >= NEAR / 2).tolist():
            result.noisy.append((i, step, float(gaps[step]), float(noise[step])))
        same = steps.argmax(axis=1) == greedy
        result.steps += len(greedy)
        result.equal += int(same.sum())
        result.ties += int((data["greedy_margins"][i][~same] < NEAR).sum())
    return result
