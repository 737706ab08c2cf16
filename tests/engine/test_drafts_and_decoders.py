"""Drafts beside everything that could be confused by them: other decoders, grammars, rows of no numbers, faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from plait.core import registry
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.structured import StructuredOutputs
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.kvcache.pool import Pool
from plait.proposers.base import NO_PROPOSAL, Proposal, Proposer, Resources, chain
from plait.runner.drafter import Drafter
from tests.engine.test_structured import make
from tests.fakes import CAUSAL_TRAITS, LAYOUT, VOCAB, Answer, FakeRunner, drain, make_engine

DRAFTS: dict[str, Any] = {"proposer": "lookahead", "options": {"width": "5"}}
PROMPT = [1, 2, 3] * 20
GREEDY = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)


class Noise(Proposer):
    """Random tokens."""

    def __init__(self, seed: int) -> None:
        super().__init__(Resources())
        self.rng = np.random.default_rng(seed)

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        return chain(self.rng.integers(0, VOCAB, most).tolist())

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        pass


def drafting(engine: Engine, proposer: Proposer) -> Engine:
    planner: Any = engine._choose("auto", "auto")[0]
    planner.proposers = {"lookahead": proposer}
    return engine


def answer_of(engine: Engine, prompt: list[int], params: SamplingParams, **choices: Any) -> Answer:
    request = engine.add(prompt, params, **choices)
    return drain(engine)[request]


def refusal(**config: Any) -> bool:
    try:
        make_engine(**config)
    except UserError:
        return True
    return False


@pytest.mark.parametrize("decoder", [n for n in registry.names("decoding") if n != "degrade"])
def test_what_a_decoder_writes_is_the_same_where_the_engine_drafts(decoder: str) -> None:
    """With what is asked of the engine, or of a request alone; or it is refused."""
    try:
        plain = answer_of(make_engine(), PROMPT, GREEDY, planner="autoregressive", decoder=decoder)
    except UserError:  # it is for other models
        assert refusal(decoder=decoder, **DRAFTS)
        return
    engine = make_engine(planner="speculative", options={"width": "5"})
    beside = answer_of(engine, PROMPT, GREEDY, decoder=decoder)
    assert (beside.tokens, beside.error) == (plain.tokens, plain.error)
    verifies = registry.load("decoding", decoder).Decoder.verifies
    assert refusal(decoder=decoder, **DRAFTS) == (not verifies)
    assert refusal(decoder=decoder, planner="speculative", **DRAFTS) == (not verifies)
    if not verifies:
        with pytest.raises(UserError, match="verifies no drafts"):
            engine.add(PROMPT, GREEDY, decoder=decoder, **DRAFTS)
        assert make_engine(decoder=decoder, proposer="auto").has_work is False


@pytest.mark.parametrize("asked", [{"regex": "([a-h]{3}[0-9]{2}){3,8}"}, {"json_object": True}])
def test_typical_drafts_keep_to_a_grammar(asked: dict[str, Any]) -> None:
    for seed in range(12):
        engine = make(decoder="typical", planner="speculative", options={"width": "6"})
        params = SamplingParams(
            temperature=1.0,
            seed=seed,
            max_tokens=40,
            structured_outputs=StructuredOutputs(**asked),
        )
        assert answer_of(drafting(engine, Noise(seed)), PROMPT, params).error is None


@pytest.mark.parametrize("budget", [8, 512])
@pytest.mark.parametrize("asked", [{"regex": "abcd,,[ef]gh"}, {"choice": ["abcd"]}])
def test_a_prompt_is_scored_before_anything_is_certain(budget: int, asked: dict[str, Any]) -> None:
    prompt = [(7 * i) % 60 for i in range(150)]
    told = []
    for structured in (None, StructuredOutputs(**asked)):
        engine = make(max_num_batched_tokens=budget)
        params = SamplingParams(
            temperature=0.0, max_tokens=9, prompt_logprobs=1, structured_outputs=structured
        )
        told.append(answer_of(engine, prompt, params).prompt_logprobs)
    assert told[0] == told[1]
    assert told[0] is not None
    assert None not in told[0][1:]


class Broken(FakeRunner):
    """No numbers behind the first row of a draft."""

    def forward(self, inputs: Any) -> Any:
        found = super().forward(inputs)
        for one, logits in zip(inputs, found, strict=True):
            if len(one.window.parents):
                logits[1:] = np.nan
        return found


@pytest.mark.parametrize(
    "fields", [{}, {"frequency_penalty": 0.3}, {"temperature": 1.0, "seed": 3}]
)
def test_nobody_needs_the_rows_behind_a_refused_draft(fields: dict[str, Any]) -> None:
    params = SamplingParams(**{"temperature": 0.0, "max_tokens": 10, "ignore_eos": True, **fields})
    found = []
    for config in ({}, {"planner": "speculative", "options": {"width": "4"}}):
        pool = Pool(LAYOUT, 64)
        engine = assemble(
            EngineConfig("fake", **config),  # type: ignore[arg-type]
            Broken(pool, CAUSAL_TRAITS),
            CAUSAL_TRAITS,
            pool,
        )
        if config:
            drafting(engine, Noise(1))
        found.append(answer_of(engine, [1, 2, 3], params))
    assert found[0].tokens == found[1].tokens
    assert found[1].error is None


class Failing(Noise):
    def __init__(self, when: str) -> None:
        super().__init__(5)
        self.when = when

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        if self.when == "propose":
            raise RuntimeError("a fault")
        return super().propose(seq, most)

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        if self.when == "learn":
            raise RuntimeError("a fault")


@pytest.mark.parametrize("when", ["propose", "learn"])
def test_a_proposer_that_fails_costs_nobody_an_answer(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = drafting(make_engine(planner="speculative", options={"width": "4"}), Failing(when))
    ids = [engine.add(prompt, GREEDY) for prompt in ([1, 2, 3], [4, 5])]
    answers = drain(engine)
    for request, prompt in zip(ids, ([1, 2, 3], [4, 5]), strict=True):
        assert answers[request].tokens == answer_of(make_engine(), prompt, GREEDY).tokens
    assert sum("a proposer failed" in each.message for each in caplog.records) == 1


@dataclass
class Loaded:
    runner: Any
    pool: Any
    traits: Any


def test_a_draft_model_forgets_requests_that_it_has_no_room_for() -> None:
    pool = Pool(LAYOUT, 2)
    drafter = Drafter(Loaded(FakeRunner(pool, CAUSAL_TRAITS), pool, CAUSAL_TRAITS))  # type: ignore[arg-type]
    for request in range(50):
        canvas = np.zeros(5000, np.int32)
        seq = Sequence(request, canvas, SamplingParams(), limit=6000, seed=0)
        assert not drafter.follow(seq, (), 1)
    assert not drafter._states


class Silent(Noise):
    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        return NO_PROPOSAL


def test_what_is_certain_is_no_gain_of_drafting() -> None:
    engine = drafting(make(planner="speculative"), Silent(1))
    asked = StructuredOutputs(regex="[ab]ababababababcccccccc[ab]hhhhhhhhhhhhhhh[ab]")
    params = SamplingParams(temperature=0.0, max_tokens=60, structured_outputs=asked)
    metrics = answer_of(engine, [1, 2, 3], params).metrics
    assert metrics is not None
    assert metrics.num_forced > 10
    step = engine.scheduler.company.seconds(1, 0)
    assert metrics.plain_seconds <= metrics.num_forwards * step * 1.01


@pytest.mark.parametrize(
    ("proposer", "options"),
    [("lookahead", {"proposer": "none"}), ("none", {"width": "5"}), ("none", {"branches": "2"})],
)
def test_what_contradicts_itself_is_refused(proposer: str, options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="two proposers|of drafts"):
        make_engine().add(PROMPT, GREEDY, proposer=proposer, options=options)
