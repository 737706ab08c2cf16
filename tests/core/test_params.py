"""SamplingParams: every field is honoured or refused."""

from __future__ import annotations

from typing import Any

import pytest

from plait.core.errors import UserError
from plait.core.params import MAX_LOGPROBS, MAX_STOPS, SamplingParams


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 2.5),
        ("n", 1.5),
        ("top_k", 1.5),
        ("seed", 0.5),
        ("logprobs", 1.5),
        ("stop", 3),
        ("stop_token_ids", 5),
        ("stop_token_ids", [2**31]),
        ("stop_token_ids", [True]),
        ("logit_bias", [1]),
        ("logit_bias", {7: "x"}),
        ("logit_bias", {2**70: 1.0}),
        ("min_tokens", -1),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "hot"),
        ("temperature", True),
        ("top_k", -2),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.01),
        ("min_p", 1.5),
        ("typical_p", 0.0),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("seed", 2**64),
        ("logprobs", -1),
        ("logprobs", MAX_LOGPROBS + 1),
        ("prompt_logprobs", MAX_LOGPROBS + 1),
        ("stop", ["x"] * (MAX_STOPS + 1)),
        ("stop", [""]),
        ("stop", [1]),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", ["5"]),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {"7": 1.0}),
        ("logit_bias", {7: float("nan")}),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        SamplingParams(**{field: value})
    assert field in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 1024),
        ("max_tokens", 1),
        ("max_tokens", None),
        ("temperature", 0),
        ("top_k", -1),
        ("top_p", 1e-6),
        ("min_p", 1.0),
        ("presence_penalty", -2.0),
        ("seed", -(2**63)),
        ("seed", 2**64 - 1),
        ("logprobs", 0),
        ("logprobs", MAX_LOGPROBS),
        ("stop", ["a", "b"]),
        ("logit_bias", {0: -100.0}),
    ],
)
def test_the_ends_of_the_ranges_are_accepted(field: str, value: Any) -> None:
    assert getattr(SamplingParams(**{field: value}), field) == value


def test_min_tokens_may_not_exceed_max_tokens() -> None:
    assert SamplingParams(max_tokens=8, min_tokens=8).min_tokens == 8
    with pytest.raises(UserError, match="min_tokens"):
        SamplingParams(max_tokens=8, min_tokens=9)


def test_no_tokens_at_all_is_for_scoring_only() -> None:
    assert SamplingParams(max_tokens=0, prompt_logprobs=0).max_tokens == 0


def test_one_stop_string_is_a_list_of_one() -> None:
    assert SamplingParams(stop="END").stop == ("END",)


@pytest.mark.parametrize("field", ["stop", "stop_token_ids", "logit_bias"])
def test_none_is_no_stop_and_no_bias(field: str) -> None:
    nothing: Any = {field: None}
    assert SamplingParams(**nothing) == SamplingParams()


def test_greedy_is_temperature_zero() -> None:
    assert SamplingParams(temperature=0).is_greedy
    assert not SamplingParams(temperature=0.01).is_greedy


@pytest.mark.parametrize(
    "changed", [{"repetition_penalty": 1.1}, {"presence_penalty": 0.1}, {"frequency_penalty": -0.1}]
)
def test_penalties_are_noticed(changed: dict[str, float]) -> None:
    assert not SamplingParams().has_penalties
    assert SamplingParams(**changed).has_penalties  # type: ignore[arg-type]


def test_stop_ids_join_those_of_the_model_unless_told_otherwise() -> None:
    eos = frozenset({2, 3})
    assert SamplingParams(stop_token_ids=[9]).stop_ids(eos) == {2, 3, 9}
    assert SamplingParams(stop_token_ids=[9], ignore_eos=True).stop_ids(eos) == {9}


def test_params_cannot_change_under_a_running_request() -> None:
    with pytest.raises(AttributeError):
        SamplingParams().temperature = 0.0  # type: ignore[misc]
