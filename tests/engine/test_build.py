"""Composition: which parts are chosen, and what is refused, with the way out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plait.core.config import EngineConfig
from plait.core.errors import CapacityError, NotFoundError, UserError
from plait.core.params import SamplingParams
from plait.core.traits import Mode, Predicts
from plait.core.window import CAUSAL, FULL, Pattern, PatternKind
from plait.core.window import block as pattern_block
from plait.decoding import sample, threshold, verify
from plait.engine.build import part_names
from plait.iteration import autoregressive, block, canvas, speculative
from plait.kvcache import none, paged, radix
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, MASK, drain, make_engine

SCORED = SamplingParams(max_tokens=0, prompt_logprobs=0, infill=[(1, 2)])
PARAMS = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)


def test_auto_is_what_the_model_calls_for() -> None:
    planner, decoder = make_engine(CAUSAL_TRAITS)._choose("auto", "auto")
    assert isinstance(planner, speculative.Planner)
    assert isinstance(decoder, verify.Decoder)
    planner, decoder = make_engine(CAUSAL_TRAITS, proposer="none")._choose("auto", "auto")
    assert isinstance(planner, autoregressive.Planner)
    assert isinstance(decoder, sample.Decoder)
    planner, decoder = make_engine(BLOCK_TRAITS)._choose("auto", "auto")
    assert isinstance(planner, block.Planner)
    assert isinstance(decoder, threshold.Decoder)
    assert isinstance(make_engine().scheduler.cache, radix.Cache)
    assert isinstance(make_engine(BLOCK_TRAITS).scheduler.cache, radix.Cache)
    assert isinstance(make_engine(cache="none").scheduler.cache, none.Cache)


WIDE = replace(BLOCK_TRAITS, pattern=pattern_block(64))
"""Its tokens see beyond their page."""


def test_prefixes_are_shared_only_where_it_is_wanted_and_can_be() -> None:
    for engine in (make_engine(enable_prefix_caching=False), make_engine(WIDE)):
        assert type(engine.scheduler.cache) is paged.Cache
    config = EngineConfig(planner="block")
    assert part_names(config, replace(BLOCK_TRAITS, pattern=FULL))["cache"] == "paged"
    with pytest.raises(UserError, match="enable_prefix_caching is off") as refusal:
        make_engine(cache="radix", enable_prefix_caching=False)
    assert "'paged'" in refusal.value.hint
    with pytest.raises(UserError, match="beyond their page") as refusal:
        make_engine(WIDE, cache="radix")
    assert "'paged'" in refusal.value.hint


def test_a_named_decoder_is_the_engines_own() -> None:
    _, decoder = make_engine(BLOCK_TRAITS, decoder="sample")._choose("auto", "auto")
    assert isinstance(decoder, sample.Decoder)


def test_a_request_may_choose_another_part() -> None:
    engine = make_engine(BLOCK_TRAITS, options={"threshold": "0.99"})
    own = engine.add([1, 2], PARAMS)
    at_once = engine.add([1, 2], PARAMS, decoder="sample")
    answers = drain(engine)
    whole = make_engine(BLOCK_TRAITS, decoder="sample")
    key = whole.add([1, 2], PARAMS)
    assert drain(whole)[key].tokens == answers[at_once].tokens != answers[own].tokens


def test_parts_are_built_once() -> None:
    engine = make_engine(proposer="none")
    assert engine._choose("auto", "auto") == engine._choose("autoregressive", "sample")


def test_options_reach_the_part_they_belong_to() -> None:
    engine = make_engine(BLOCK_TRAITS, options={"threshold": "0.3", "planner.block_size": "4"})
    planner, decoder = engine._choose("auto", "auto")
    assert isinstance(planner, block.Planner)
    assert planner.size == 4
    assert decoder.options == threshold.Options(threshold=0.3)


def test_an_option_of_a_part_that_is_not_in_use_is_refused() -> None:
    with pytest.raises(UserError, match="threshold"):
        make_engine(options={"threshold": "0.3"})
    with pytest.raises(UserError, match=r"threshold=-1\.0 is out of range"):
        make_engine(BLOCK_TRAITS, options={"threshold": "-1"})


@pytest.mark.parametrize(
    ("part", "wrong", "right"),
    [("planner", "blok", "block"), ("decoder", "sampel", "sample"), ("cache", "page", "paged")],
)
def test_a_wrong_name_is_answered_with_the_nearest(part: str, wrong: str, right: str) -> None:
    with pytest.raises(NotFoundError, match=wrong) as refusal:
        make_engine(**{part: wrong})
    assert right in refusal.value.hint


def test_a_planner_that_does_not_fit_the_model_is_refused() -> None:
    with pytest.raises(UserError, match="by blocks") as refusal:
        make_engine(CAUSAL_TRAITS, planner="block")
    assert "autoregressive" in refusal.value.hint
    with pytest.raises(UserError, match="left to right"):
        make_engine(BLOCK_TRAITS, planner="autoregressive")
    with pytest.raises(UserError, match="prefix attention"):
        make_engine(replace(BLOCK_TRAITS, pattern=Pattern(PatternKind.PREFIX, 4)))
    engine = make_engine(CAUSAL_TRAITS)
    with pytest.raises(UserError, match="by blocks"):
        engine.add([1], PARAMS, planner="block")


def test_the_planner_chooses_among_the_modes_of_a_model() -> None:
    modes = (Mode(Predicts.SAME, pattern_block(8)), Mode(Predicts.SAME, FULL))
    several = replace(CAUSAL_TRAITS, mask_token=MASK, modes=modes)
    wanted = {
        "auto": (autoregressive.Planner, Predicts.NEXT, CAUSAL),
        "autoregressive": (autoregressive.Planner, Predicts.NEXT, CAUSAL),
        "block": (block.Planner, Predicts.SAME, pattern_block(8)),
        "canvas": (canvas.Planner, Predicts.SAME, FULL),
    }
    for name, (kind, predicts, pattern) in wanted.items():
        engine = make_engine(several, planner=name)
        assert isinstance(engine.own_planner, kind)
        assert (engine.traits.predicts, engine.traits.pattern) == (predicts, pattern)
        for other, (own_kind, *own) in wanted.items():
            if other != "auto":  # of one request
                (request,) = engine.prepare([1], PARAMS, planner=other)
                assert isinstance(request.planner, own_kind)
                assert [request.planner.traits.predicts, request.planner.traits.pattern] == own
    (request,) = make_engine(several).prepare([1, 2], SCORED, planner="score")
    assert request.planner.traits.pattern is FULL


def test_a_budget_below_the_smallest_window_is_refused() -> None:
    with pytest.raises(UserError, match="max_num_batched_tokens=7") as refusal:
        make_engine(BLOCK_TRAITS, max_num_batched_tokens=7)
    assert refusal.value.hint == "at least 8"


def test_the_context_is_what_model_memory_and_cache_allow() -> None:
    assert make_engine(num_pages=4).traits.context_length == 128
    assert make_engine(num_pages=1000).traits.context_length == 4096
    assert make_engine(num_pages=1000, max_model_len=99).traits.context_length == 99
    assert make_engine(num_pages=1000, cache="none").traits.context_length == 512


@pytest.mark.parametrize(
    ("config", "kind", "numbers"),
    [
        ({"max_model_len": 5000, "num_pages": 1000}, UserError, ("5000", "4096")),
        ({"max_model_len": 200, "num_pages": 4}, CapacityError, ("200", "128")),
        ({"max_model_len": 600, "cache": "none"}, CapacityError, ("600", "512")),
    ],
)
def test_a_context_that_cannot_be_is_refused_with_both_numbers(
    config: dict[str, object], kind: type[UserError], numbers: tuple[str, str]
) -> None:
    with pytest.raises(kind) as refusal:
        make_engine(**config)  # type: ignore[arg-type]
    assert all(number in refusal.value.message for number in numbers)
