"""Speculation is plain decoding, token for token, whatever is drafted; over a fake model that sees every slot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.decoding import verify
from plait.engine.engine import Engine
from plait.iteration import drafting
from plait.iteration.company import Company
from plait.iteration.drafting import _pays_back, account
from plait.iteration.speculative import Options, Planner
from plait.iteration.width import Record, best, expected, planned
from plait.proposers.base import MOST, Proposal, Proposer, Resources, chain, tree
from tests.engine.test_equalities import cases, run
from tests.fakes import VOCAB, Answer, drain, make_engine, step

WIDE = {"planner": "speculative", "options": {"width": "5"}}


class Prophet(Proposer):
    """Knows the answers and is wrong now and then."""

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        """It knows everything already."""

    def __init__(self, answers: dict[tuple[int, ...], list[int]], mistakes: int) -> None:
        super().__init__(Resources())
        self.answers = answers
        self.mistakes = mistakes

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        answer = self.answers[tuple(seq.tokens[: seq.prompt_length].tolist())]
        done = seq.length - seq.prompt_length
        tokens = [*answer[done : done + most], *[0] * most][:most]
        if self.mistakes and seq.length % self.mistakes == 0:
            tokens[len(tokens) // 2] = (tokens[len(tokens) // 2] + 1) % VOCAB
        wrong = [(tokens[0] + 1) % VOCAB]
        return chain(tokens) if branches == 1 else tree([wrong, tokens[: most - 1]])


def give(engine: Engine, name: str, proposer: Proposer) -> Planner:
    """The engine's planner, with this proposer alone."""
    planner, _ = engine._choose("auto", "auto")
    assert isinstance(planner, Planner)
    planner.proposers = {name: proposer}
    return planner


def prophesy(engine: Engine, answers: dict[tuple[int, ...], list[int]], mistakes: int) -> Prophet:
    prophet = Prophet(answers, mistakes)
    give(engine, "lookahead", prophet)
    return prophet


def plain() -> tuple[list[Any], dict[tuple[int, ...], list[int]]]:
    requests = cases()
    outcomes = run(make_engine(num_pages=400, proposer="none"), requests)
    answers = {tuple(p): o[0] for (p, _), o in zip(requests, outcomes, strict=True)}
    return outcomes, answers


@pytest.mark.parametrize("mistakes", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {"num_pages": 400},
        {"num_pages": 400, "cache": "paged"},
        {"num_pages": 400, "cache": "none"},
        {"num_pages": 400, "max_num_batched_tokens": 40, "max_num_seqs": 4},
        {"num_pages": 30, "max_num_seqs": 4},
    ],
    ids=str,
)
def test_all_kinds_of_requests_get_what_plain_decoding_gives(
    fields: dict[str, Any], mistakes: int
) -> None:
    outcomes, answers = plain()
    engine = make_engine(**WIDE, **fields)
    prophesy(engine, answers, mistakes)
    assert run(engine, cases()) == outcomes
    assert engine.metrics.num_drafted > 50
    assert engine.metrics.num_accepted > 0
    if not mistakes and fields == {"num_pages": 400}:
        assert engine.metrics.tokens_per_forward > 2


@pytest.mark.parametrize("cache", ["radix", "paged", "none"])
def test_a_tree_gives_what_plain_decoding_gives(
    cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right branch is always the second one; nothing is rounded in the fake model, so every row is believed."""
    monkeypatch.setattr(verify, "LEAD", 0.0)
    rng = np.random.default_rng(3)
    params = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    requests = [(rng.integers(0, VOCAB, n).tolist(), params) for n in (1, 5, 30, 31, 64, 100)]
    outcomes = run(make_engine(num_pages=200), requests)
    answers = {tuple(p): o[0] for (p, _), o in zip(requests, outcomes, strict=True)}
    options = {"width": "6", "branches": "2"}
    engine = make_engine(num_pages=200, planner="speculative", options=options, cache=cache)
    prophesy(engine, answers, 0)
    assert run(engine, requests) == outcomes
    assert engine.metrics.num_accepted > 20


@pytest.mark.parametrize("proposer", ["none", "lookahead", "auto"])
@pytest.mark.parametrize("width", ["0", "1", str(MOST)])
@pytest.mark.parametrize("branches", ["1", "3"])
def test_every_proposer_gives_what_plain_decoding_gives(
    proposer: str, width: str, branches: str
) -> None:
    outcomes, _ = plain()
    options = {"proposer": proposer}
    if proposer != "none":
        options |= {"width": width, "branches": branches}
    engine = make_engine(num_pages=400, planner="speculative", options=options)
    assert run(engine, cases()) == outcomes


def test_log_probabilities_are_those_of_plain_decoding() -> None:
    prompt, params = (
        [1, 2, 3] * 20,
        SamplingParams(seed=4, logprobs=3, prompt_logprobs=2, max_tokens=30),
    )
    found: list[Answer] = []
    for config in ({}, WIDE):
        engine = make_engine(**config)
        key = engine.add(prompt, params)
        if config:
            prophesy(engine, {tuple(prompt): found[0].tokens}, 3)
        found.append(drain(engine)[key])
    assert found[0].tokens == found[1].tokens
    assert found[0].logprobs == found[1].logprobs
    assert found[0].prompt_logprobs == found[1].prompt_logprobs
    assert len(found[1].logprobs) == len(found[1].tokens)


def test_several_choices_of_a_prompt_stay_apart() -> None:
    prompt, params = [5, 6, 7, 8] * 10, SamplingParams(n=4, seed=3, max_tokens=30, ignore_eos=True)
    found = []
    for config in ({}, WIDE):
        engine = make_engine(num_pages=100, **config)
        key = engine.add(prompt, params)
        if config:
            prophesy(engine, {tuple(prompt): found[0][0]}, 2)
        answers = drain(engine)
        found.append([answers[key + i].tokens for i in range(4)])
    assert found[0] == found[1]


def test_preemption_at_any_time_changes_nothing() -> None:
    outcomes, answers = plain()
    engine = make_engine(num_pages=400, **WIDE)
    prophesy(engine, answers, 3)
    rng, got = np.random.default_rng(0), {}
    ids = [engine.add(prompt, params) for prompt, params in cases()]
    while engine.has_work:
        step(engine, got)
        if rng.random() < 0.5:
            engine.preempt(int(rng.choice(ids)))
    assert [(got[i].tokens, got[i].reason, got[i].stop_token) for i in ids] == outcomes


def test_a_draft_takes_no_memory_from_others() -> None:
    """Two requests that fill the cache to the last page: drafts are left out, nobody is preempted."""
    requests = [
        ([i + 1] * 60, SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True))
        for i in range(2)
    ]
    engine = make_engine(num_pages=4, **WIDE)
    run(engine, requests)
    assert engine.metrics.num_preemptions == 0


def test_what_it_expects() -> None:
    assert expected(0.0, 5) == 1
    assert expected(1.0, 5) == 6
    assert expected(0.5, 2) == pytest.approx(1.75)
    assert Record(2, 4).after(4, 4).rate > 0.5 > Record(2, 4).after(4, 0).rate


def paying(record: Record, company: Company, draft: float = 0.0) -> int:
    plan = best(record, 16, company, 100, draft)
    return plan.width if plan.gain > 1 else 0


@pytest.mark.parametrize(
    ("rate", "least", "most"), [(0.0, 0, 0), (0.05, 0, 0), (0.6, 1, 4), (0.99, 8, 16)]
)
def test_the_width_follows_the_rate(rate: float, least: int, most: int) -> None:
    company = Company()
    for positions in range(1, 20):
        company.observe(positions, 0.01 + 0.002 * positions)
    assert least <= paying(Record(rate, 1.0), company) <= most


def test_nothing_is_drafted_where_every_position_costs_the_same() -> None:
    company = Company(num_running=8)
    for positions in range(1, 40):
        company.observe(positions, 0.01 * positions)
    assert paying(Record(0.9, 1.0), company) == 0
    assert paying(Record(0.9, 1.0), Company(), draft=10.0) == 0


def test_a_proposer_that_stops_costs_what_it_did_until_then() -> None:
    """Half of the places are not filled: no rows for them, and no further tokens drafted."""
    company = Company()
    for positions in range(1, 20):
        company.observe(positions, 0.01 * positions)
    sure, unsure = (planned(Record(5, 10, stops), 8, company, 9, 0.001) for stops in (0, 5))
    assert sure.tokens == unsure.tokens
    assert unsure.seconds < sure.seconds
    stopped = Record(2.0, 4.0).after(0, 0, asked=3)
    assert stopped.rate < 0.5
    assert stopped.stay < 1.0


def test_a_draft_gains_no_more_than_its_tokens() -> None:
    """However slow the steps of one position happened to be."""
    company = Company()
    company.observe(1, 1.0)
    company.observe(2, 0.01)
    assert planned(Record(0.0, 10.0), 1, company, 100, 0.0).gain <= 1
    assert planned(Record(5.0, 10.0), 1, company, 100, 0.0).gain <= 1.5


def test_all_who_draft_share_what_the_forward_takes() -> None:
    """Eight requests that drafted seven tokens each: nothing is gained where every position costs the same."""
    company = Company(num_running=8, num_drafted=56)
    for positions in range(1, 70):
        company.observe(positions, 0.01 * positions)
    plan = planned(Record(100.0, 100.0), 7, company, 9, 0.0)
    prompt = np.array([1, 2], np.int32)
    seqs = [Sequence(i, prompt, SamplingParams(), limit=99, seed=0) for i in range(8)]
    for seq in seqs:
        account(seq, 8, plan, company)
    promised = sum(seq.metrics.expected_seconds for seq in seqs)
    assert promised == pytest.approx(company.seconds(64, 2))
    plain = sum(seq.metrics.expected_plain_seconds for seq in seqs)
    assert plain / promised == pytest.approx(1.0, rel=0.05)


def test_one_slow_step_is_not_believed() -> None:
    company = Company()
    for _ in range(10):
        company.observe(1, 0.01)
    company.observe(1, 5.0)
    assert company.seconds(1, 0) < 0.012


def test_where_all_steps_become_slower_those_of_another_size_are_no_bargain() -> None:
    """A machine may be twice as slow from one second to the next; sizes that were last seen before follow."""

    class Measured:
        def predict(self, num_tokens: int, context: int, num_logits: int = 1) -> float:
            return 0.01 + 0.002 * num_tokens

    time = Measured()
    company = Company(time=time)
    for _ in range(20):
        for positions in (8, 16):
            company.observe(positions, time.predict(positions, 0))
    for _ in range(60):
        company.observe(8, 2 * time.predict(8, 0))
    assert company.seconds(16, 0) == pytest.approx(2 * time.predict(16, 0), rel=0.05)


class Wrong(Proposer):
    """Always has something to say, at a price, and is never right."""

    seconds = 1.0

    def __init__(self) -> None:
        super().__init__(Resources())
        self.calls = 0

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        self.calls += 1
        return chain([0] * most)

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        """It never learns."""


def test_what_never_pays_is_soon_left_alone() -> None:
    engine = make_engine(num_pages=400, planner="speculative")
    wrong = Wrong()
    give(engine, "draft", wrong)
    params = SamplingParams(temperature=1.0, max_tokens=400, ignore_eos=True, logit_bias={0: -100})
    for seed in range(5):
        engine.add([1, 2, 3], replace(params, seed=seed))
        drain(engine)
    assert wrong.calls < 20


def test_a_request_tells_what_drafting_came_to() -> None:
    outcomes, answers = plain()
    engine = make_engine(num_pages=400, planner="speculative")
    prophet = prophesy(engine, answers, 0)
    prompt, params = [7, 8, 9] * 4, SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    prophet.answers[tuple(prompt)] = [1] * 60
    key = engine.add(prompt, params)
    request = engine.requests[0]
    drain(engine)
    times = request.seq.metrics
    assert request.seq.request_id == key
    assert sum(times.drafts.values()) == times.num_drafted > 0
    assert sum(times.accepted.values()) == times.num_accepted
    assert times.draft_seconds > 0
    assert times.plain_seconds > 0
    assert times.expected_seconds > 0
    assert "right lately" in times.draft_notes["lookahead"]
    assert engine.metrics.plain_seconds == times.plain_seconds


def test_a_width_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="width"):
        Options(width=MOST + 1)


def test_a_draft_model_must_be_there() -> None:
    with pytest.raises(UserError, match="draft model"):
        make_engine(planner="speculative", options={"proposer": "draft"})


def test_one_request_chooses_for_itself() -> None:
    engine = make_engine()
    params = SamplingParams(temperature=0.0, max_tokens=40, logit_bias={3: 100.0})
    first = engine.add([1, 2] * 20, params)
    second = engine.add([1, 2] * 20, params, planner="speculative", options={"width": "3"})
    answers = drain(engine)
    assert answers[first].tokens == answers[second].tokens
    assert engine.metrics.num_drafted > 0


TREES = {"planner": "speculative", "options": {"width": "9", "branches": "3"}}


def test_stop_tokens_wait_for_min_tokens_in_every_branch() -> None:
    """Rows of later branches decide earlier places than rows before them."""
    rng = np.random.default_rng(1)
    requests = [
        (
            rng.integers(0, VOCAB, 9).tolist(),
            SamplingParams(
                temperature=0.0,
                max_tokens=30,
                min_tokens=3 + i % 5,
                stop_token_ids=rng.integers(0, VOCAB, 12).tolist(),
            ),
        )
        for i in range(60)
    ]
    outcomes = run(make_engine(num_pages=400, proposer="none"), requests)
    free = [(p, replace(q, min_tokens=0, stop_token_ids=(), ignore_eos=True)) for p, q in requests]
    longest = run(make_engine(num_pages=400, proposer="none"), free)
    answers = {tuple(p): o[0] for (p, _), o in zip(requests, longest, strict=True)}
    engine = make_engine(num_pages=400, **TREES)
    prophesy(engine, answers, 0)
    assert run(engine, requests) == outcomes
    assert engine.metrics.num_accepted > 20


def test_a_tree_for_which_there_is_no_page_is_left_out() -> None:
    requests = [
        ([i] * 30, SamplingParams(temperature=0.0, max_tokens=120, ignore_eos=True))
        for i in range(4)
    ]
    outcomes = run(make_engine(num_pages=400, proposer="none"), requests)
    engine = make_engine(num_pages=12, **TREES)
    prophesy(
        engine, {tuple(p): o[0] for (p, _), o in zip(requests, outcomes, strict=True)}, mistakes=0
    )
    assert run(engine, requests) == outcomes


def test_what_trees_left_in_the_cache_is_found() -> None:
    prompt = list(range(40))
    params = SamplingParams(temperature=0.0, max_tokens=100, ignore_eos=True)
    ((answer, *_),) = run(make_engine(num_pages=400, proposer="none"), [(prompt, params)])
    engine = make_engine(num_pages=400, cache="radix", **TREES)
    prophesy(engine, {tuple(prompt): answer}, 0)
    engine.add(prompt, params)
    drain(engine)
    engine.add([*prompt, *answer, 1], replace(params, max_tokens=2))
    drain(engine)
    assert engine.metrics.num_cached_tokens >= 96


def test_drafts_of_no_token_are_passed_over() -> None:
    outcomes, answers = plain()
    absurd = {prompt: [VOCAB + 7] * len(answer) for prompt, answer in answers.items()}
    engine = make_engine(num_pages=400, planner="speculative", options={"width": "4"})
    prophesy(engine, absurd, 0)
    assert run(engine, cases()) == outcomes
    assert engine.metrics.num_drafted == 0


def test_tokens_behind_the_end_are_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a draft that is right as far as anybody would go on, only what stands before the stop token counts."""
    prompt, params = [5, 6, 7], SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    ((answer, *_),) = run(make_engine(num_pages=400, proposer="none"), [(prompt, params)])
    stop = next(i for i in range(4, 40) if answer[i] not in answer[:i] and i % 10 not in (0, 1, 9))
    engine = make_engine(num_pages=400, planner="speculative", options={"width": "9"})
    prophesy(engine, {tuple(prompt): answer}, 0)
    counted: list[int] = []
    monkeypatch.setattr(
        drafting, "account", lambda seq, written, plan, company: counted.append(written)
    )
    key = engine.add(prompt, replace(params, stop_token_ids=(answer[stop],)))
    request = engine.requests[0]
    assert drain(engine)[key].tokens == answer[: stop + 1]
    metrics = request.seq.metrics
    # One token of each forward is the model's own.
    assert metrics.num_accepted == stop + 1 - metrics.num_forwards
    assert metrics.num_accepted < sum(metrics.drafts.values())
    # All but the first token, which came before anything was drafted.
    assert sum(counted) == stop
    assert metrics.num_first_tokens == 1


def test_catching_up_pays_for_fewer_in_company() -> None:
    """Seven of eight who share a step gain nothing by the eighth's drafts, and wait all the same."""
    alone, shared = Company(num_running=1), Company(num_running=8)
    for company in (alone, shared):
        for positions in range(1, 40):
            company.observe(positions, 0.1 + 0.0001 * positions)
    seq = Sequence(1, np.array([1], np.int32), SamplingParams(), limit=40, seed=0)
    plans = [planned(Record(9, 10), 4, company, 9, 0.001) for company in (alone, shared)]
    assert all(plan.gain > 1.2 for plan in plans)
    saved = [39 / plan.tokens * plan.seconds * (plan.gain - 1) for plan in plans]
    # Of the tokens that the request is ahead, each saves its share of a step.
    assert saved[1] == pytest.approx(saved[0] / 8, rel=0.15)
    for plan, most in zip(plans, saved, strict=True):
        assert [_pays_back(seq, plan, most * share) for share in (0.9, 1.1)] == [True, False]


def test_requests_that_begin_together_are_company_for_each_other() -> None:
    """Their prompts are in the cache, so that each could draft in the step that it joins."""
    prompts = [[i] * 40 for i in range(8)]
    params = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
    engine = make_engine(num_pages=400, cache="radix", planner="speculative")
    seen: list[int] = []

    class Watching(Wrong):
        def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
            seen.append(engine.scheduler.company.num_running)
            return super().propose(seq, most, branches)

    give(engine, "draft", Watching()).options = Options(width=2)
    for turn in (1, 12):
        for prompt in prompts:
            engine.add(prompt, replace(params, max_tokens=turn))
        drain(engine)
    assert seen
    assert set(seen[:8]) == {8}
