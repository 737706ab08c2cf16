"""Equalities of masked and block diffusion: what must not change a token, and what must come to the same thing.

Every case is compared with an engine that computes everything in every step, or with another way to say the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.traits import Predicts, Traits
from plait.core.window import CAUSAL, FULL
from tests import fakes
from tests.engine.test_equalities import outcome
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    FULL_TRAITS,
    MASK,
    VOCAB,
    Answer,
    drain,
    make_engine,
    plain_logits,
    runner_of,
    step,
    suited,
)

NEXT = replace(FULL_TRAITS, predicts=Predicts.NEXT)
BLOCK_NEXT = replace(BLOCK_TRAITS, predicts=Predicts.NEXT)
FULL_KINDS = {"full": FULL_TRAITS, "full, next": NEXT}
ALL_KINDS = {"block": BLOCK_TRAITS, "block, next": BLOCK_NEXT, **FULL_KINDS}
Case = tuple[list[int], SamplingParams]
BUDGET = 4096

DECODERS: dict[str, dict[str, str]] = {
    "threshold": {"threshold": "0.3"},
    "fixed_steps": {"steps": "3", "shift": "2"},
    "factor": {"form": "frechet", "factor": "3"},
    "hierarchical": {"threshold": "0.5", "low_threshold": "0.1"},
    "entropy_bound": {"bound": "3"},
    "joint": {"threshold": "0.3", "edit_threshold": "0.3"},
    "renoise": {"most_steps": "5"},
    "credit": {"threshold": "0.3"},
    "anneal(credit(hierarchical))": {"rate": "0.2", "threshold": "0.3"},
}
CACHED: dict[str, dict[str, str]] = {
    "prefix": {"reuse": "prefix"},
    "dual": {"reuse": "dual"},
    "dual, period": {"reuse": "dual", "refresh_every": "2"},
    "vicinity": {
        "reuse": "vicinity",
        "look_behind": "3",
        "look_ahead": "5",
        "warm_up": "2",
    },
}


def cases() -> list[Case]:
    """Lengths around pages and blocks, greedy and sampled, with the odd stop token."""
    rng = np.random.default_rng(0)
    settings: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 1.0, "ignore_eos": True},
        {"temperature": 0.7, "top_k": 20, "max_tokens": 33, "ignore_eos": True},
        {"temperature": 0.0, "repetition_penalty": 1.3, "ignore_eos": True},
        {"temperature": 1.0, "min_tokens": 10, "stop_token_ids": [11, 12]},
    ]
    lengths = [1, 8, 31, 32, 65]
    return [
        (
            rng.integers(0, VOCAB, length).tolist(),
            SamplingParams(**{"max_tokens": 20, "seed": 100 + i, **settings[i % len(settings)]}),
        )
        for i, length in enumerate(lengths)
    ]


def run(traits: Traits, requests: list[Case] | None = None, **config: Any) -> list[tuple[Any, ...]]:
    """All requests in one batch."""
    config = {"max_num_batched_tokens": BUDGET, **config}
    engine = make_engine(traits, **config)
    ids = [engine.add(prompt, params) for prompt, params in requests or cases()]
    answers = drain(engine)
    assert all(answers[i].error is None for i in ids)
    return [outcome(answers[i]) for i in ids]


def small(**options: Any) -> dict[str, Any]:
    """A configuration with blocks that the cases have several of."""
    return {"options": {"block_size": "8", **options}}


@pytest.fixture(params=ALL_KINDS)
def traits(request: pytest.FixtureRequest) -> Traits:
    return ALL_KINDS[request.param]


@pytest.fixture(params=FULL_KINDS)
def full_traits(request: pytest.FixtureRequest) -> Traits:
    return FULL_KINDS[request.param]


@pytest.mark.parametrize("kind", ["same", "next"])
def test_a_canvas_is_what_a_plain_loop_over_the_model_gives(kind: str) -> None:
    traits, shift = (FULL_TRAITS, 0) if kind == "same" else (NEXT, 1)
    prompt = [3, 1, 4, 1, 5]
    params = SamplingParams(temperature=0.0, max_tokens=21, ignore_eos=True)
    canvas = np.array(prompt + [MASK] * 21, np.int32)
    masked = list(range(5, 26))
    while masked:
        first = 5 + (masked[0] - 5) // 8 * 8
        proposals = {}
        for position in [p for p in masked if p < first + 8]:
            z = plain_logits(canvas, FULL, position - shift)[0].astype(np.float64)
            z[MASK] = -np.inf
            shares = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            proposals[position] = (shares.max(), z.argmax())
        bar = min(0.9, max(p for p, _ in proposals.values()) - 1e-5)
        for position, (confidence, token) in proposals.items():
            if confidence >= bar:
                canvas[position] = token
                masked.remove(position)
    ((tokens, _, _),) = run(traits, [(prompt, params)], **small())
    assert tokens == canvas[5:].tolist()


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_batch_is_its_requests_alone(traits: Traits, decoder: str) -> None:
    traits = suited(decoder, traits)
    config = {"decoder": decoder, **small(**DECODERS[decoder])}
    alone = [run(traits, [case], cache="none", **config)[0] for case in cases()]
    assert run(traits, **config) == alone
    assert len({tuple(tokens) for tokens, _, _ in alone}) == len(alone)


@pytest.mark.parametrize("reuse", CACHED)
def test_a_batch_is_its_requests_alone_with_every_reuse(full_traits: Traits, reuse: str) -> None:
    config = small(**CACHED[reuse])
    alone = [run(full_traits, [case], **config)[0] for case in cases()]
    assert run(full_traits, **config) == alone
    assert alone != run(full_traits, **small()), "stale K/V changed nothing: it was not used"


@pytest.mark.parametrize("reuse", ["prefix", "dual", "vicinity"])
def test_refreshing_in_every_step_is_no_reuse(full_traits: Traits, reuse: str) -> None:
    whole = run(full_traits, **small())
    assert run(full_traits, **small(reuse=reuse, refresh_every="1")) == whole
    if reuse == "vicinity":
        assert run(full_traits, **small(reuse=reuse, warm_up="1000")) == whole


def test_vicinity_that_sees_everything_is_no_reuse(full_traits: Traits) -> None:
    looks = {"look_behind": "1000", "look_ahead": "1000"}
    assert run(full_traits, **small(reuse="vicinity", **looks)) == run(full_traits, **small())


def test_vicinity_that_looks_nowhere_is_dual(full_traits: Traits) -> None:
    looks = {"look_behind": "0", "look_ahead": "0"}
    dual = run(full_traits, **small(reuse="dual"))
    assert run(full_traits, **small(reuse="vicinity", **looks)) == dual


def test_prefix_is_vicinity_to_the_end(full_traits: Traits) -> None:
    looks = {"look_behind": "0", "look_ahead": "1000"}
    prefix = run(full_traits, **small(reuse="prefix"))
    assert run(full_traits, **small(reuse="vicinity", **looks)) == prefix


def test_what_a_reuse_feeds() -> None:
    """The first step of a block everything; the others what the policy says."""
    params = SamplingParams(temperature=0.0, max_tokens=32, ignore_eos=True)
    for reuse, looks, later in (
        ("prefix", {}, {(40, 72), (48, 72), (56, 72), (64, 72)}),
        ("dual", {}, {(40, 48), (48, 56), (56, 64), (64, 72)}),
        (
            "vicinity",
            {"look_behind": "2", "look_ahead": "4"},
            {(38, 52), (46, 60), (54, 68), (62, 72)},
        ),
    ):
        options = {**small(reuse=reuse, **looks)["options"], "threshold": "2"}
        engine = make_engine(FULL_TRAITS, options=options)
        engine.add([5] * 40, params)
        drain(engine)
        fed = [(w.start, w.end) for batch in runner_of(engine).batches for _, w in batch]
        assert len(fed) == 32
        assert fed.count((0, 72)) == 4
        assert set(fed) - {(0, 72)} == later


@pytest.mark.parametrize("decoder", ["threshold", "joint", "renoise", "credit"])
@pytest.mark.parametrize("reuse", ["none", *CACHED])
def test_preempted_and_resumed_is_uninterrupted(
    full_traits: Traits, reuse: str, decoder: str
) -> None:
    reused = CACHED.get(reuse, {})
    config = {"decoder": decoder, **small(**reused, **DECODERS[decoder])}
    _preempt_at_random(suited(decoder, full_traits), 1, config)


@pytest.mark.parametrize("smoothing", ["0", "0.3"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_preempted_blocks_are_uninterrupted(decoder: str, smoothing: str) -> None:
    for traits in (BLOCK_TRAITS, BLOCK_NEXT):
        options = {**DECODERS[decoder], "smoothing": smoothing}
        _preempt_at_random(suited(decoder, traits), 1, {"decoder": decoder, **small(**options)})


def _preempt_at_random(traits: Traits, every: int, config: dict[str, Any]) -> None:
    engine = make_engine(traits, max_num_batched_tokens=BUDGET, **config)
    rng = np.random.default_rng(every)
    ids = [engine.add(prompt, params) for prompt, params in cases()]
    answers: dict[int, Answer] = {}
    for number in range(10_000):
        if not engine.has_work:
            break
        step(engine, answers)
        if number % every == 0:
            engine.preempt(int(rng.choice(ids)))
    assert [outcome(answers[i]) for i in ids] == run(traits, **config)
    assert engine.metrics.num_preemptions >= 2


def test_a_fork_with_its_parents_seed_goes_on_like_its_parent(traits: Traits) -> None:
    options = small(reuse="dual") if traits.pattern is FULL else small()
    engine = make_engine(traits, max_num_batched_tokens=BUDGET, **options)
    params = SamplingParams(max_tokens=60, seed=5, ignore_eos=True)
    parent, answers = engine.add(list(range(20)), params), dict[int, Answer]()
    for _ in range(4):
        step(engine, answers)
    before = list(answers[parent].tokens) if parent in answers else []
    twin, other = engine.fork(parent, 5), engine.fork(parent, 6)
    drain(engine, answers)
    assert before + answers[twin].tokens == answers[parent].tokens
    assert before + answers[other].tokens != answers[parent].tokens


def test_a_merged_commit_is_a_separate_one() -> None:
    for traits in (BLOCK_TRAITS, BLOCK_NEXT):
        merged = run(traits)
        assert run(traits, options={"merge": "false"}) == merged
        counts = []
        for merge in ("true", "false"):
            engine = make_engine(traits, options={"merge": merge})
            engine.add([1] * 8, SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True))
            drain(engine)
            counts.append(engine.metrics.num_steps)
        # The separate one has a forward more for the prompt and each of the 4 blocks before the last.
        assert counts[1] - counts[0] == 5


def test_guidance_without_a_length_takes_half_of_a_step() -> None:
    engine = make_engine(FULL_TRAITS, **small(guidance="1"))
    key = engine.add([1, 2, 3], SamplingParams(max_tokens=None, ignore_eos=True, temperature=0.0))
    assert len(drain(engine)[key].tokens) == 512 // 2 - 3


@pytest.mark.parametrize("decoder", ["threshold", "fixed_steps", "joint"])
def test_sub_blocks_are_decided_from_left_to_right(decoder: str) -> None:
    """All of the block is seen and only its leftmost open part written; parts as long as the block are the block."""
    own = {**DECODERS[decoder], "sub_block_size": "4"}
    for traits in (BLOCK_TRAITS, BLOCK_NEXT):
        config = {"decoder": decoder, "options": own}
        whole = {**config, "options": {**own, "sub_block_size": "8"}}
        assert run(traits, **whole) == run(traits, decoder=decoder, options=DECODERS[decoder])
        engine = make_engine(traits, **config)
        engine.add([1] * 6, SamplingParams(max_tokens=26, temperature=0.0, ignore_eos=True))
        drain(engine)
        windows = [window for batch in runner_of(engine).batches for _, window in batch]
        parts = [{int(t) // 4 for t in window.targets} for window in windows]
        assert all(len(part) == 1 for part in parts)
        assert [*map(max, parts)] == sorted(map(max, parts))
        assert {*map(max, parts)} == set(range(1, 8))
        assert all(window.end % 8 == 0 for window in windows)
        if decoder == "fixed_steps":
            assert all(parts.count({part}) == 3 for part in range(2, 8))
        _preempt_at_random(traits, 1, config)


def test_a_block_cache_is_a_masked_recompute() -> None:
    for traits in (BLOCK_TRAITS, BLOCK_NEXT):
        assert run(traits, cache="radix") == run(traits, cache="paged") == run(traits, cache="none")


@pytest.mark.parametrize("sizes", [("8", "4"), ("4", "8"), ("1", "16"), ("2", "1")], ids=str)
def test_requests_with_other_blocks_share_no_prefix(sizes: tuple[str, str]) -> None:
    """The same prompt read in blocks of another length leaves other K/V."""
    case = list(range(50)) * 2, SamplingParams(max_tokens=24, seed=1, ignore_eos=True)
    engine = make_engine(BLOCK_TRAITS, cache="radix")
    for size in (*sizes, *sizes):
        options = {"block_size": size}
        (wanted,) = run(BLOCK_TRAITS, [case], cache="none", options=options)
        key = engine.add(*case, options=options)
        assert outcome(drain(engine)[key]) == wanted
    assert engine.metrics.num_cached_tokens > 150, "each found what the first with its blocks left"


def test_a_threshold_above_1_is_a_token_per_step(
    traits: Traits, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fakes.logits_of

    def untied(hashes: fakes.Hashes, vocab_size: int) -> fakes.Floats:
        """Without rows that are equally sure of everything: those are written together."""
        return (
            plain(hashes, vocab_size) * 2
            + plain(hashes + np.uint64(1), vocab_size)
            + 1e-3 * plain(hashes + np.uint64(2), vocab_size)
        )

    monkeypatch.setattr(fakes, "logits_of", untied)
    one = run(traits, decoder="threshold", **small(threshold="1.5"))
    assert run(traits, decoder="fixed_steps", **small()) == one
    assert run(traits, decoder="factor", **small(factor="0")) == one
    assert run(traits, decoder="hierarchical", **small(threshold="1.5", low_threshold="2")) == one
    assert run(traits, decoder="threshold", **small(threshold="0.3")) != one


def test_wrappers_without_weight_are_what_they_wrap(traits: Traits) -> None:
    plain = run(traits, decoder="threshold", **small())
    assert run(traits, decoder="credit(threshold)", **small(strength="0")) == plain
    assert run(traits, decoder="anneal(threshold)", **small(start="0.9")) == plain
    assert run(traits, decoder="joint", **small(edit_threshold="2")) == plain
    assert run(traits, decoder="credit(threshold)", **small(strength="3")) != plain
    assert run(traits, decoder="anneal(threshold)", **small(start="3", rate="0")) == run(
        traits, decoder="threshold", **small(threshold="3")
    )


def test_smoothing_without_weight_is_none(traits: Traits) -> None:
    """1e-30 goes all the way through the mixing and adds nothing; 0 leaves it out."""
    plain = run(traits, **small())
    assert run(traits, **small(smoothing="0")) == plain
    assert run(traits, **small(smoothing="1e-30")) == plain
    assert run(traits, **small(smoothing="0.3")) != plain


@pytest.mark.parametrize("reuse", CACHED)
def test_smoothing_goes_with_every_reuse(full_traits: Traits, reuse: str) -> None:
    options = CACHED[reuse]
    smooth = run(full_traits, **small(**options, smoothing="0.3"))
    assert smooth != run(full_traits, **small(**options))
    _preempt_at_random(full_traits, 1, small(**options, smoothing="0.3"))


def test_a_block_of_1_is_left_to_right() -> None:
    """A block-causal model with blocks of one position sees what a causal one sees."""
    requests = [(prompt, replace(params, temperature=0.0)) for prompt, params in cases()]
    for prompt, params in requests:
        canvas = list(prompt)
        params = replace(params, ignore_eos=True, repetition_penalty=1.0, stop_token_ids=())
        for _ in range(params.max_tokens or 0):
            z = plain_logits(np.array([*canvas, MASK], np.int32), CAUSAL, len(canvas))[0]
            canvas.append(int(z[:MASK].argmax()))
        options = {"block_size": "1"}
        ((tokens, _, _),) = run(BLOCK_TRAITS, [(prompt, params)], options=options)
        assert tokens == canvas[len(prompt) :]


def test_a_literal_mask_id_in_the_prompt_survives(traits: Traits) -> None:
    prompt = [MASK, 1, MASK, MASK, 5, MASK]
    params = SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True)
    for decoder, options in DECODERS.items():
        engine = make_engine(suited(decoder, traits), decoder=decoder, **small(**options))
        key = engine.add(prompt, params)
        seq = engine._requests[key].seq
        answers = drain(engine)
        assert len(answers[key].tokens) == 30
        assert MASK not in answers[key].tokens
        assert seq.tokens[:6].tolist() == prompt


@pytest.mark.parametrize("decoder", DECODERS)
def test_nothing_leaks_from_one_request_to_the_next(traits: Traits, decoder: str) -> None:
    """In a used engine, with the page contents, parts and memory that others left, also those cut short."""
    traits = suited(decoder, traits)
    config = {"decoder": decoder, **small(**DECODERS[decoder], smoothing="0.3")}
    fresh = run(traits, **config)
    engine = make_engine(traits, max_num_batched_tokens=BUDGET, num_pages=40, **config)
    for round_ in range(2):
        ids = [engine.add([9] * (20 + i), SamplingParams(max_tokens=24)) for i in range(6)]
        for _ in range(3):
            engine.step()
        for key in ids[::2]:
            engine.cancel(key)
        drain(engine)
        for (prompt, params), expected in zip(cases(), fresh, strict=True):
            key = engine.add(prompt, params)
            assert outcome(drain(engine)[key]) == expected, round_


def test_growing_blocks_that_reach_the_end_are_a_canvas_of_fixed_length(
    full_traits: Traits,
) -> None:
    whole = run(full_traits, **small())
    assert run(full_traits, **small(open_blocks="10")) == whole
    grown = run(full_traits, **small(open_blocks="1"))
    assert grown != whole
    engine = make_engine(full_traits, **small(open_blocks="2"))
    engine.add([5] * 10, SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True))
    drain(engine)
    ends = [w.end for batch in runner_of(engine).batches for _, w in batch]
    assert sorted(set(ends)) == [26, 34, 42, 50]
    assert ends == sorted(ends)


def test_early_stop_decides_nothing_behind_a_stop_token(traits: Traits) -> None:
    params = SamplingParams(max_tokens=64, temperature=0.0, stop_token_ids=list(range(0, VOCAB, 4)))
    steps = {}
    for early in ("true", "false"):
        engine = make_engine(traits, **small(early_stop=early, threshold="2"))
        for first in range(12):
            engine.add([first, 3, 5], params)
        assert {a.reason for a in drain(engine).values()} == {"stop"}
        steps[early] = engine.metrics.num_windows
    assert steps["true"] < steps["false"]


def test_modes_share_a_batch() -> None:
    """Requests with different planners' options and decoders beside each other."""
    prompt, params = [3, 1, 4, 1, 5] * 4, SamplingParams(max_tokens=24, seed=1)
    asked = [
        {"decoder": "threshold", "options": {"threshold": "0.5"}},
        {"decoder": "threshold", "options": {"threshold": "0.8", "block_size": "4"}},
        {"decoder": "credit(factor)", "options": {"factor": "2", "strength": "2"}},
        {"decoder": "joint", "options": {"reuse": "dual"}},
        {"options": {"guidance": "1.5"}},
        {"options": {"smoothing": "0.3", "open_blocks": "1"}},
    ]
    engine = make_engine(FULL_TRAITS)
    ids = [engine.add(prompt, params, **choices) for choices in asked]
    together = drain(engine)
    for key, choices in zip(ids, asked, strict=True):
        alone = make_engine(FULL_TRAITS)
        own = alone.add(prompt, params, **choices)
        assert outcome(drain(alone)[own]) == outcome(together[key])
    assert len({tuple(together[key].tokens) for key in ids}) == len(ids)


@pytest.mark.parametrize("decoder", ["threshold", "renoise"])
def test_who_watches_sees_what_may_still_change(traits: Traits, decoder: str) -> None:
    traits = suited(decoder, traits)
    config = {"decoder": decoder, **small(**DECODERS[decoder])}
    engine = make_engine(traits, **config)
    prompt, params = [3, 1, 4, 1, 5], SamplingParams(max_tokens=27, ignore_eos=True, seed=1)
    key, unseen = engine.add(prompt, params, watch=True), engine.add(prompt, params)
    seq, final, canvases = engine._requests[key].seq, list[int](), []
    while engine.has_work:
        events = engine.step()
        assert all(e.canvas is None for e in events if e.request_id == unseen)
        for event in (e for e in events if e.request_id == key):
            final += event.token_ids
            assert (event.canvas is None) == (event.finish_reason is not None)
            if event.canvas is not None:
                canvases.append(event.canvas)
                assert len(final) + len(event.canvas) + 5 == seq.length
    assert len(canvases) == seq.metrics.num_forwards - 1
    assert any(token is not None for canvas in canvases for token in canvas)
    assert [final] == [run(traits, [(prompt, params)], **config)[0][0]]


def test_a_step_with_room_for_one_canvas_serves_all_in_turn() -> None:
    for options in (small(), small(reuse="dual")):
        tight = run(FULL_TRAITS, max_num_batched_tokens=100, **options)
        assert tight == run(FULL_TRAITS, **options)


def test_several_choices_are_several_requests() -> None:
    for options in (small(), small(reuse="vicinity")):
        engine = make_engine(FULL_TRAITS, **options)
        params = SamplingParams(n=3, max_tokens=20, seed=3)
        first = engine.add([1, 2, 3], params)
        answers = drain(engine)
        choices = [answers[first + i].tokens for i in range(3)]
        alone = run(FULL_TRAITS, [([1, 2, 3], replace(params, n=1))], **options)
        assert choices[0] == alone[0][0]
        assert len({tuple(tokens) for tokens in choices}) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"treshold": "1"}, "treshold"),
        ({"threshold": "high"}, "threshold='high'"),
        ({"threshold": "0"}, "threshold=0"),
        ({"block_size": "0"}, "block_size=0"),
        ({"strength": "1"}, "strength"),
        ({"threshold": 0.5}, "options"),
        ({"x" * 65: "1"}, "options"),
        (["threshold"], "options"),
    ],
)
def test_options_of_a_request_act_or_are_refused(options: Any, words: str) -> None:
    engine = make_engine(FULL_TRAITS, **small())
    with pytest.raises(UserError, match=words) as refusal:
        engine.add([1, 2], SamplingParams(), options=options)
    assert refusal.value.hint
    assert not engine.has_work


def test_options_of_a_request_begin_with_those_of_the_engine() -> None:
    engine = make_engine(
        FULL_TRAITS, decoder="credit(threshold)", **small(strength="3", threshold="0.3")
    )
    requests = [
        engine.prepare([1], SamplingParams(), **choices)[0]
        for choices in ({}, {"options": {"threshold": "0.5"}}, {"decoder": "credit(factor)"}, {})
    ]
    found = [(r.planner.options.block_size, r.decoder.options.strength) for r in requests]
    assert found == [(8, 3.0), (8, 3.0), (8, 0.7), (8, 3.0)]
    assert [r.decoder.threshold for r in requests] == [0.3, 0.5, None, 0.3]
    assert requests[0].decoder is requests[3].decoder


def test_infill_keeps_what_is_given_and_fills_the_rest(full_traits: Traits) -> None:
    prompt = [3, 1, 7, 1, 5, MASK, 2, 6, 5, 3, 5, 8] * 4
    params = SamplingParams(temperature=0.0, infill=[(4, 9), (20, 21), (30, 41)])
    opened = {*range(4, 9), 20, *range(30, 41)}
    engine = make_engine(full_traits, **small())
    key = engine.add(prompt, params)
    answer = drain(engine)[key]
    assert len(answer.tokens) == len(prompt) - 4
    assert answer.reason == "length"
    for position, token in enumerate(answer.tokens, 4):
        assert (token == prompt[position]) or position in opened
        assert token != MASK or position not in opened
    other = [*prompt[:4], *[9] * 5, *prompt[9:]]
    assert run(full_traits, [(other, params)], **small())[0][0] == answer.tokens
    for reuse in CACHED.values():
        options = {**reuse, "refresh_every": "1"}
        assert run(full_traits, [(prompt, params)], **small(**options))[0][0] == answer.tokens


def test_guidance_mixes_with_and_without_the_prompt() -> None:
    prompt, count = [3, 1, 4, 1, 5], 6
    params = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
    canvas = np.array(prompt + [MASK] * count, np.int32)
    without = np.full(5, MASK, np.int32)
    masked = list(range(5, 11))
    while masked:
        proposals = []
        for position in masked:
            z = plain_logits(canvas, FULL, position)[0]
            bare = plain_logits(np.append(without, canvas[5:]), FULL, position)[0]
            mixed = (bare + np.float32(2.5) * (z - bare))[:MASK].astype(np.float64)
            shares = np.exp(mixed - mixed.max())
            proposals.append(((shares / shares.sum()).max(), position, int(mixed.argmax())))
        _, position, token = max(proposals, key=lambda p: (p[0], -p[1]))
        canvas[position] = token
        masked.remove(position)
    options = {"guidance": "1.5", "threshold": "2"}
    ((tokens, _, _),) = run(FULL_TRAITS, [(prompt, params)], options=options)
    assert tokens == canvas[5:].tolist()
    tiny = run(FULL_TRAITS, **small(guidance="1e-30"))
    assert tiny == run(FULL_TRAITS, **small())
    assert run(FULL_TRAITS, **small(guidance="1", smoothing="0.3")) != tiny


def test_a_model_of_noise_starts_from_noise() -> None:
    noisy = replace(FULL_TRAITS, mask_token=None, starts_from_noise=True)
    answers = run(noisy, **small(most_steps="6"))
    assert answers == [run(noisy, [case], **small(most_steps="6"))[0] for case in cases()]
    engine = make_engine(noisy, **small())
    key = engine.add([1, 2], SamplingParams(max_tokens=40))
    canvas = engine._requests[key].seq.tokens[2:]
    assert len(set(canvas.tolist())) > 10
    assert engine._requests[key].decoder.edits


REFUSED: list[tuple[Traits, dict[str, Any], SamplingParams, str]] = [
    (FULL_TRAITS, small(block_size="0"), SamplingParams(), "block_size=0"),
    (BLOCK_TRAITS, small(block_size="0"), SamplingParams(), "block_size=0"),
    (replace(FULL_TRAITS, mask_token=None), {}, SamplingParams(), "mask token"),
    (replace(BLOCK_TRAITS, mask_token=None), {}, SamplingParams(), "mask token"),
    (
        replace(FULL_TRAITS, context_length=40),
        {},
        SamplingParams(max_tokens=40),
        "longer than the context",
    ),
    (FULL_TRAITS, {"cache": "radix"}, SamplingParams(), "shares|see beyond"),
    (FULL_TRAITS, {"cache": "none", **small(reuse="dual")}, SamplingParams(), "keeps nothing"),
    (BLOCK_TRAITS, {"cache": "none", **small(merge="false")}, SamplingParams(), "keeps nothing"),
    (FULL_TRAITS, {"max_num_batched_tokens": 30}, SamplingParams(max_tokens=40), "longer than"),
    (FULL_TRAITS, small(guidance="1"), SamplingParams(max_tokens=300), "guidance feeds it twice"),
    (FULL_TRAITS, {"decoder": "renoise"}, SamplingParams(), "uniform noise"),
    (FULL_TRAITS, small(smoothing_start="0.3"), SamplingParams(), "smoothing_start has no meaning"),
    (BLOCK_TRAITS, {"options": {"sub_block_size": "3"}}, SamplingParams(), "does not divide"),
    (BLOCK_TRAITS, {"options": {"sub_block_size": "0"}}, SamplingParams(), "sub_block_size=0"),
    (FULL_TRAITS, small(reuse="some"), SamplingParams(), "reuse"),
    (FULL_TRAITS, small(look_ahead="3"), SamplingParams(), "look_ahead"),
    (FULL_TRAITS, small(reuse="dual", look_behind="3"), SamplingParams(), "look_behind"),
    (FULL_TRAITS, small(warm_up="3"), SamplingParams(), "warm_up"),
    (FULL_TRAITS, small(guidance="1", reuse="dual"), SamplingParams(), "guidance"),
    (FULL_TRAITS, {}, SamplingParams(prompt_logprobs=1), "prompt_logprobs"),
    (FULL_TRAITS, {"decoder": "joint"}, SamplingParams(infill=[(1, 2)]), "edits"),
    (FULL_TRAITS, {}, SamplingParams(infill=[(1, 9)]), "infill ends at 9"),
    (BLOCK_TRAITS, {}, SamplingParams(infill=[(1, 2)]), "infill needs"),
    (CAUSAL_TRAITS, {}, SamplingParams(infill=[(1, 2)]), "infill needs"),
    (CAUSAL_TRAITS, {"decoder": "joint"}, SamplingParams(), "edits"),
    (CAUSAL_TRAITS, {"planner": "canvas"}, SamplingParams(), "whole canvas"),
    (FULL_TRAITS, {"decoder": "anneal(factor)"}, SamplingParams(), "threshold"),
    (FULL_TRAITS, {"decoder": "threshold(credit)"}, SamplingParams(), "inside"),
    (FULL_TRAITS, {"decoder": "credit(credit(threshold))"}, SamplingParams(), "twice"),
    (FULL_TRAITS, {"decoder": "credit(threshold"}, SamplingParams(), "no name"),
    (FULL_TRAITS, {"planner": "score"}, SamplingParams(), "score"),
]


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_what_cannot_be_is_refused_with_the_way_out(index: int) -> None:
    traits, config, params, words = REFUSED[index]
    with pytest.raises(UserError, match=words) as refusal:
        make_engine(traits, **config).add([1, 2, 3, 4], params)
    assert refusal.value.hint


@pytest.mark.parametrize(
    "spans",
    [[(3, 7), (5, 9)], [(5, 9), (3, 4)], [(0, 3)], [(4, 4)], [(1,)], [3], [(1, 2.0)], [(-2, 3)]],
)
def test_stretches_that_overlap_or_are_none_are_refused(spans: Any) -> None:
    with pytest.raises(UserError, match="infill") as refusal:
        SamplingParams(infill=spans)
    assert refusal.value.hint
