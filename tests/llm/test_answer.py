"""From events to an answer: how the events are divided changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.sequence import Event
from plait.core.window import FinishReason, TokenLogprobs
from plait.text.answer import Answer, RequestOutput
from plait.text.tokenizer import Tokenizer
from tests.fakes import EOS
from tests.llm.fakes import TOKENIZER

TOKENIZER_ = Tokenizer.from_gguf(TOKENIZER)
TEXT = "abcdefgh.ijkl,mnop"


def answer(params: SamplingParams, cuts: list[int]) -> RequestOutput:
    """TEXT and an end token as events cut at these places."""
    ids = [*TOKENIZER_.encode(TEXT), EOS]
    made = Answer(TOKENIZER_, None, [1], params, [7])
    edges = [0, *cuts, len(ids)]
    for start, end in zip(edges, edges[1:], strict=False):
        part = tuple(ids[start:end])
        is_last = end == len(ids)
        logprobs = tuple(TokenLogprobs(-float(i), 1, {}) for i in range(start, end))
        made.take(
            Event(
                7,
                part,
                logprobs if params.logprobs is not None else (),
                FinishReason.STOP if is_last else None,
                stop_token=EOS if is_last else None,
            )
        )
    assert made.output.finished
    return made.output


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("stop", [(), ("ijk",), (".i", "h"), ("zz",), ("p",)])
def test_every_division_gives_the_same_answer(stop: tuple[str, ...], keeps: bool) -> None:
    params = SamplingParams(stop=stop, include_stop_str_in_output=keeps, logprobs=0)
    rng = np.random.default_rng(0)
    whole = answer(params, [])
    for _ in range(30):
        cuts = np.sort(rng.choice(range(1, len(TEXT) + 1), int(rng.integers(0, 18)), replace=False))
        assert answer(params, cuts.tolist()).outputs == whole.outputs


def test_the_log_probability_is_that_of_the_tokens_that_are_kept() -> None:
    one = answer(SamplingParams(stop=("ijk",), logprobs=0), []).outputs[0]
    assert one.text == "abcdefgh."
    assert len(one.token_ids) == 9
    assert one.cumulative_logprob == -sum(range(9))


def test_a_stop_string_is_told_once_so_that_the_request_can_be_ended() -> None:
    made = Answer(TOKENIZER_, None, [1], SamplingParams(stop=("b",)), [7])
    a, b = TOKENIZER_.encode("ab")
    assert not made.take(Event(7, (a,)))
    assert made.take(Event(7, (b, a)))
    assert not made.take(Event(7, (a, a)))
    assert not made.output.finished
    assert not made.take(Event(7, finish_reason=FinishReason.CANCELLED))
    assert made.output.finished
    one = made.output.outputs[0]
    assert (one.text, one.token_ids, one.finish_reason, one.stop_reason) == ("a", [a], "stop", "b")


def test_a_snapshot_stays_as_it_is() -> None:
    made = Answer(TOKENIZER_, "x", [1], SamplingParams(logprobs=0), [7])
    a, b = TOKENIZER_.encode("ab")
    made.take(Event(7, (a,), (TokenLogprobs(-1.0, 1, {}),)))
    first = made.snapshot()
    made.take(Event(7, (b,), (TokenLogprobs(-1.0, 1, {}),)))
    assert first.outputs[0].text == "a"
    assert first.outputs[0].token_ids == [a]
    assert len(first.outputs[0].logprobs or ()) == 1
