"""Medusa's heads over the native executor: what they say, and that random ones change no answer."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from plait.core.config import EngineConfig
from plait.core.errors import FormatError, UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import Floats, KVView, Window
from plait.decoding import verify
from plait.engine import proposing
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.runner import heads
from plait.runner.native import NativeRunner
from plait.runner.watched import Watched
from tests.engine.test_native import PATHS, VOCAB
from tests.engine.test_speculation_native import FAST, Path, answers, loaded, make, requests
from tests.fakes import drain, step
from tests.synthetic import CONFIGS, checkpoint

WIDTH = 64
COUNT = 3


def tensors(*, own: bool = True, count: int = COUNT, prefix: str = "") -> dict[str, Floats]:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for head in range(count):
        found[f"{head}.0.linear.weight"] = rng.normal(size=(WIDTH, WIDTH)) / 8
        found[f"{head}.0.linear.bias"] = rng.normal(size=WIDTH) / 8
        if own:
            found[f"{head}.1.weight"] = rng.normal(size=(VOCAB, WIDTH))
    return {prefix + name: values.astype(np.float32) for name, values in found.items()}


def headed(
    name: str, path: Path, file: File, options: dict[str, str] | None = None
) -> tuple[Engine, heads.Heads, Watched]:
    own = loaded(name, path)
    assert isinstance(own.runner, NativeRunner)
    watched = Watched(own.runner)
    found = heads.load(file, watched, VOCAB)
    config = EngineConfig("x", **FAST, options={"proposer": "heads", **(options or {})})  # type: ignore[arg-type]
    engine = assemble(config, watched, own.traits, own.pool, own.threads, heads=found)
    return engine, found, watched


@pytest.fixture(params=[True, False], ids=["own logits", "the model's logits"])
def file(request: pytest.FixtureRequest, tmp_path: File) -> File:
    path = tmp_path / "heads.safetensors"
    save_file(tensors(own=request.param, prefix="medusa_head." if request.param else ""), path)
    return path


def has_own_logits(file: File) -> bool:
    return b"medusa_head" in file.read_bytes()[:200]


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_random_heads_change_no_answer(name: str, path: Path, file: File) -> None:
    plain = answers(make(loaded(name, path)))
    for options in ({"width": "3"}, {"width": "8", "branches": "4"}, {}):
        engine, _, _ = headed(name, path, file, options)
        assert answers(engine) == plain
        assert engine.metrics.num_drafted > 0
        if options and has_own_logits(file):  # the model's own head likes to repeat
            assert engine.metrics.num_accepted < engine.metrics.num_drafted / 4


def by_hand(canvas: list[int], *, own: bool) -> list[Floats]:
    """Logits of every head behind a canvas, from the reference executor's hidden state before the last token."""
    part = loaded("llama", PATHS[0], native=False)
    weights = checkpoint(CONFIGS["llama"])
    seq = Sequence(1, np.array(canvas, np.int32), SamplingParams(), limit=900, seed=0)
    view = KVView(np.arange(8, dtype=np.int32))
    item = StepInput(seq, Window(0, len(canvas) - 1), view)
    state = part.runner.hidden([item], until="hidden")[-1].astype(np.float64)
    normed = state / np.sqrt((state**2).mean() + 1e-5) * weights.dequantized("model.norm.weight")
    rows = []
    parts = tensors(own=own)
    for head in range(COUNT):
        inner = parts[f"{head}.0.linear.weight"] @ normed + parts[f"{head}.0.linear.bias"]
        moved = normed + inner / (1 + np.exp(-inner))
        out = parts[f"{head}.1.weight"] if own else weights.dequantized("lm_head.weight")
        rows.append(out @ moved)
    return rows


def test_heads_read_the_state_that_chose_the_last_token(file: File) -> None:
    own = has_own_logits(file)
    engine, found, _ = headed("llama", PATHS[0], file, {"width": "4", "branches": "2"})
    prompt, _ = requests()[2]
    params = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
    engine.add(prompt, params)
    seq = engine.requests[0].seq
    collected: dict[int, Any] = {}
    for _ in range(6):
        step(engine, collected)
        wanted = by_hand(seq.tokens.tolist(), own=own)
        levels = found.levels(seq, 2, 5)
        assert len(levels) == 2
        for level, row in zip(levels, wanted, strict=False):
            assert [token for token, _ in level] == np.argsort(-row)[:5].tolist()
            shares = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
            np.testing.assert_allclose([s for _, s in level], np.sort(shares)[::-1][:5], rtol=1e-3)
    drain(engine, collected)


class Knowing:
    """Heads that know the answer, and are wrong about every third token."""

    seconds = 0.0

    def __init__(self, answer: list[int], prompt: int) -> None:
        self.answer = answer
        self.prompt = prompt

    def levels(self, seq: Sequence, depth: int, breadth: int) -> list[list[tuple[int, float]]]:
        at = seq.length - self.prompt
        coming = self.answer[at : at + depth]
        return [
            [((token + 1) % VOCAB, 0.6), (token, 0.4)][:breadth]
            if (at + i) % 3 == 0
            else [(token, 1.0)]
            for i, token in enumerate(coming)
        ]


def test_a_tree_takes_what_a_chain_gets_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        verify, "LEAD", 0.01
    )  # random weights are hardly ever sure, and float32 is exact
    prompt = requests()[2][0]
    params = SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True)
    plain = make(loaded("llama", PATHS[0]))
    key = plain.add(prompt, params)
    answer = drain(plain)[key].tokens
    accepted = []
    for branches in ("1", "2"):
        own = loaded("llama", PATHS[0])
        options = {"proposer": "heads", "width": "6", "branches": branches}
        config = EngineConfig("x", planner="speculative", options=options)
        engine = assemble(
            config,
            own.runner,
            own.traits,
            own.pool,
            own.threads,
            heads=Knowing(answer, len(prompt)),  # type: ignore[arg-type]
        )
        key = engine.add(prompt, params)
        assert drain(engine)[key].tokens == answer
        accepted.append(engine.metrics.num_accepted / engine.metrics.num_steps)
    assert accepted[1] > accepted[0]


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "numbered none"),
    ({"weights": np.zeros(3)}, "belongs to no head"),
    ({"1.0.linear.weight": np.zeros((WIDTH, WIDTH))}, "numbered 1"),
    ({"0.0.linear.weight": np.zeros((WIDTH, WIDTH))}, "has linear.weight"),
    (
        {"0.0.linear.weight": np.zeros((WIDTH, 8)), "0.0.linear.bias": np.zeros(WIDTH)},
        "not .64, 64",
    ),
    ({"0.0.weight": np.zeros((VOCAB + 1, WIDTH))}, "not .96, 64"),
    ({"0.1.weight": np.zeros((VOCAB, WIDTH))}, "does not follow"),
    (
        {"0.0.weight": np.zeros((VOCAB, WIDTH)), "0.1.weight": np.zeros((VOCAB, WIDTH))},
        "does not follow",
    ),
    ({"0.0.weight": np.full((VOCAB, WIDTH), np.nan)}, "no numbers"),
]


@pytest.mark.parametrize(("content", "words"), BAD, ids=range(len(BAD)))
def test_a_file_that_holds_no_fitting_heads_is_refused(
    content: dict[str, Any], words: str, tmp_path: File
) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({name: values.astype(np.float32) for name, values in content.items()}, path)
    with pytest.raises(FormatError, match=words):
        headed("llama", PATHS[0], path)


def test_some_heads_with_logits_and_some_without_are_refused(tmp_path: File) -> None:
    path = tmp_path / "mixed.safetensors"
    content = tensors()
    del content["1.1.weight"]
    save_file(content, path)
    with pytest.raises(FormatError, match="some of its heads"):
        headed("llama", PATHS[0], path)
    with pytest.raises(UserError):
        headed("llama", PATHS[0], tmp_path / "none.safetensors")
    path.write_bytes(b"no tensors")
    with pytest.raises(FormatError):
        headed("llama", PATHS[0], path)


def test_the_proposer_needs_a_file() -> None:
    with pytest.raises(UserError, match="needs a file"):
        proposing.choice("heads")
    assert proposing.choice("heads:a.safetensors") == ("heads", "a.safetensors")
    assert proposing.draft_config(EngineConfig("x", proposer="heads:a")) is None
    engine = make(loaded("llama", PATHS[0]))
    with pytest.raises(UserError, match="none are loaded"):
        engine.add([1, 2], SamplingParams(), proposer="heads")
