"""A sweep's numbers are those of its requests, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from plait import LLM, SamplingParams
from plait.analysis.tasks import Item
from plait.core.errors import UserError
from plait.core.traits import Traits
from plait.programs.sweep import CAUSAL, MASKED, Way, is_possible, measure, ways
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, FULL_TRAITS
from tests.llm.fakes import make_llm

ITEMS = [Item(text, "?", 12) for text in ("ab", "bcd", "a", "dcba")]
PARAMS = SamplingParams(temperature=0.0, ignore_eos=True, seed=5)
WAY = Way("auto", "threshold", (("block_size", "4"), ("threshold", "0.1")))


def opened(traits: Traits) -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch, make_llm(patch, traits) as one:
        yield one


@pytest.fixture
def llm() -> Iterator[LLM]:
    yield from opened(FULL_TRAITS)


def test_every_combination_is_a_way() -> None:
    axes = {
        "threshold": {"reuse": ["none", "dual"], "threshold": ["0.5", "0.9", "1"]},
        "factor": {},
    }
    found = ways(["threshold", "factor"], axes)
    assert len(found) == 7
    assert found[1].label == "threshold reuse=none threshold=0.9"
    assert found[-1] == Way("auto", "factor")


@pytest.mark.parametrize("batch", [1, 3])
def test_the_sums_are_those_of_the_requests(llm: LLM, batch: int) -> None:
    outputs = [
        llm.generate(item.prompt, replace(PARAMS, max_tokens=12, seed=5 + i), **WAY.choices)[0]
        for i, item in enumerate(ITEMS)
    ]
    texts = [output.outputs[0].text for output in outputs]
    items = [replace(item, answer=text) for item, text in zip(ITEMS, texts, strict=True)]
    items[2] = replace(items[2], answer=texts[2] + "!")
    cost = measure(llm, items, WAY, PARAMS, batch=batch)
    assert (cost.solved, cost.total, cost.tokens) == (3, 4, 48)
    assert cost.forwards == sum(output.metrics.num_forwards for output in outputs)
    assert cost.positions == sum(output.metrics.num_forwarded_positions for output in outputs)
    assert 12 <= cost.forwards < 48
    assert len(cost.latencies) == 4
    assert all(0 < seconds <= cost.seconds for seconds in cost.latencies)


@pytest.mark.parametrize("traits", [FULL_TRAITS, BLOCK_TRAITS], ids=["full", "block"])
def test_a_baseline_of_a_masked_model_writes_one_token_a_forward(traits: Traits) -> None:
    for llm in opened(traits):
        assert not any(is_possible(llm, way) for way in CAUSAL)
        for way in MASKED:
            assert is_possible(llm, way)
            cost = measure(llm, ITEMS, way, PARAMS)
            assert 47 <= cost.tokens == 48
            assert cost.forwards >= cost.tokens


def test_a_causal_model_is_its_own_baseline() -> None:
    for llm in opened(CAUSAL_TRAITS):
        assert is_possible(llm, CAUSAL[0])
        cost = measure(llm, ITEMS, CAUSAL[0], PARAMS)
        assert cost.tokens == cost.forwards == 48


def test_of_a_prompt_that_is_filled_in_what_was_open_counts(llm: LLM) -> None:
    item = Item("abcdef", "", infill=((1, 3), (5, 6)))
    (output,) = llm.generate(
        item.prompt, replace(PARAMS, infill=item.infill, ignore_eos=False), **WAY.choices
    )
    cost = measure(llm, [replace(item, answer=output.outputs[0].text)], WAY, PARAMS)
    assert (cost.solved, cost.tokens) == (1, 3)
    assert len(output.outputs[0].token_ids) == 5


def test_what_the_model_cannot_do_is_refused(llm: LLM) -> None:
    with pytest.raises(UserError, match="no part in use"):
        measure(llm, ITEMS, Way("auto", "factor", (("threshold", "1"),)), PARAMS)
