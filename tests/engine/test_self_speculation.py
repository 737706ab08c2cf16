"""The proposer `self`: block passes draft for the same weights, and the answer is what they say token by token."""

from __future__ import annotations

from pathlib import Path as File
from typing import Any

import numpy as np
import pytest

from plait import LLM, SamplingParams
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import KVView, Window, block
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.proposers import growth
from plait.runner.block_drafter import BlockDrafter
from plait.runner.reference import ReferenceRunner
from tests.engine.test_native import PATHS
from tests.engine.test_speculation_native import Path, answers, loaded, make, requests
from tests.fakes import drain

SIZE = 4
MASK = 95


def drafting(path: Path, **options: str) -> tuple[Engine, BlockDrafter]:
    own = loaded("trimode", path, num_pages=80)
    drafter = BlockDrafter(own)
    config = EngineConfig(
        "x", planner="speculative", options={"proposer": "self", "width": "5", **options}
    )
    return assemble(config, own.runner, own.traits, own.pool, own.threads, blocks=drafter), drafter


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_answer_is_that_of_plain_decoding(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("FIRST_THRESHOLD", "LOWEST", "HIGHEST"):  # random weights are never sure
        monkeypatch.setattr(growth, bound, 0.0)
    plain = answers(make(loaded("trimode", path)))
    for options in ({}, {"width": "9", "branches": "3"}, {"width": "0"}):
        engine, _ = drafting(path, **options)
        assert answers(engine) == plain
        assert engine.metrics.num_drafted > 100 or options == {"width": "0"}


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 63, 450])
def test_guesses_are_those_of_a_forward_over_masked_positions(length: int) -> None:
    rng = np.random.default_rng(length)
    prompt = rng.integers(2, 90, length).astype(np.int32)
    drafter = drafting(PATHS[0])[1]
    seq = Sequence(1, prompt, SamplingParams(), limit=900, seed=0)
    levels = drafter.levels(seq, 6, 3)
    oracle = loaded("trimode", PATHS[0], native=False)
    assert isinstance(oracle.runner, ReferenceRunner)
    canvas = prompt
    wanted: list[list[int]] = []
    while len(wanted) < 6:
        end = (len(canvas) // SIZE + 1) * SIZE
        fed = np.append(canvas, np.full(end - len(canvas), MASK, np.int32))
        rows = np.arange(len(canvas), end, dtype=np.int32)
        window = Window(0, end, rows, rows, block(SIZE), keep=end, tokens=fed)
        view = KVView(np.arange(-(-end // 32), dtype=np.int32))
        (logits,) = oracle.runner.forward([StepInput(seq, window, view)])
        wanted += [np.argsort(-row)[:3].tolist() for row in logits]
        canvas = np.append(canvas, logits.argmax(axis=1).astype(np.int32))
    assert [[token for token, _ in level] for level in levels] == wanted[:6]
    write = np.append(prompt, canvas[length : length + 2])
    longer = Sequence(1, write, SamplingParams(), limit=900, seed=0)
    again = drafting(PATHS[0])[1]
    assert drafter.levels(longer, 3, 2) == again.levels(longer, 3, 2)


def test_pages_for_drafts_are_not_those_of_the_cache() -> None:
    engine, drafter = drafting(PATHS[0])
    pool = engine.scheduler.cache.pool
    assert (pool.num_pages, drafter._loaded.pool.num_pages) == (64, 16)
    pages = {drafter._loaded.pool.allocate() for _ in range(16)}
    assert pages == set(range(64, 80))
    assert drafter._loaded.pool.allocate() is None
    engine.add(*requests()[0])
    drain(engine)


def test_a_model_of_one_mode_is_refused() -> None:
    with pytest.raises(UserError, match="trained to decide blocks"):
        BlockDrafter(loaded("llama", PATHS[0]))
    with pytest.raises(UserError, match="needs a model that decides blocks"):
        make(loaded("llama", PATHS[0])).add([1, 2], SamplingParams(), proposer="self")


TRIMODE = File(__file__).parents[2] / "models" / "trimode"


def test_the_model_that_comes_along_drafts_for_itself() -> None:
    params: Any = SamplingParams(max_tokens=60, temperature=0.0, ignore_eos=True)
    prompts = ["abc", "12+34=", "the"]
    with LLM(TRIMODE, kv_memory=1 << 24, proposer="none") as llm:
        plain = [out.outputs[0].token_ids for out in llm.generate(prompts, params)]
    settings = {"proposer": "self", "options": {"width": "4"}, "kv_memory": 1 << 24}
    with LLM(TRIMODE, **settings) as llm:
        drafted = [out.outputs[0].token_ids for out in llm.generate(prompts, params)]
        counters = llm.counters
    assert drafted == plain
    assert counters["accepted"] > 0
