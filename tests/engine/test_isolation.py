"""A fault of one request is its own: the others finish with the tokens they would have had without it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.step import Runner, StepInput
from plait.core.traits import Predicts
from plait.core.window import Floats
from plait.engine.engine import Engine
from tests.engine import test_native
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    FULL_TRAITS,
    VOCAB,
    Answer,
    drain,
    make_engine,
    runner_of,
    step,
)

PARAMS = SamplingParams(temperature=1.0, max_tokens=24, ignore_eos=True)
COMMON = 70
"""Tokens that all prompts begin with: two pages and a part of one."""
BAD = 2
"""Which of the requests is the faulty one."""
FAMILIES = {
    "causal": CAUSAL_TRAITS,
    "block": BLOCK_TRAITS,
    "block, next": replace(BLOCK_TRAITS, predicts=Predicts.NEXT),
}
NATIVE = [
    ("llama", ("f32", "f32", "f32")),
    ("llama", ("int8", "int8", "q8_0")),
    ("gemma3", ("int8", "f16", "q8_0")),
    ("sdar", ("int8", "f16", "q8_0")),
    ("sdar", ("f32", "int8", "f32")),
]
Make = Callable[..., Engine]


def prompts(vocab: int) -> list[list[int]]:
    rng = np.random.default_rng(4)
    common = rng.integers(2, vocab - 2, COMMON).tolist()
    return [common + rng.integers(2, vocab - 2, 9 * i + 3).tolist() for i in range(6)]


def fake(traits: str, **config: Any) -> Engine:
    return make_engine(FAMILIES[traits], **config)


def native(case: tuple[str, tuple[str, str, str]], **config: Any) -> Engine:
    return test_native.make_engine(*case, **config)


@cache
def undisturbed(make: Make, family: Any, vocab: int) -> list[list[int]]:
    """Each request alone, in an engine of its own."""
    answers = []
    for seed, prompt in enumerate(prompts(vocab)):
        engine = make(family)
        key = engine.add(prompt, replace(PARAMS, seed=seed))
        answers.append(drain(engine)[key].tokens)
    return answers


class Marked:
    """A runner that fails at whatever feeds position `place` of the canvas of a request, after others are done."""

    def __init__(self, runner: Runner, key: int, place: int) -> None:
        self.runner, self.key, self.place = runner, key, place
        self.failures: list[int] = []
        self.sizes: list[int] = []

    def forward(self, inputs: list[StepInput]) -> list[Floats]:
        self.sizes.append(len(inputs))
        rows = self.runner.forward(inputs)
        for item in inputs:
            window = item.window
            if item.sequence.request_id == self.key and window.start <= self.place < window.end:
                self.failures.append(len(inputs))
                for array in rows:  # what was computed so far is of no use
                    array[:] = np.nan
                raise RuntimeError("a marked request")
        return rows

    def hidden(self, inputs: list[StepInput], *, until: str) -> Floats:
        return self.runner.hidden(inputs, until=until)

    def counters(self) -> dict[str, int]:
        return dict(self.runner.counters())


def disturbed(engine: Engine, vocab: int, bad: int, place: int, *, warm: bool) -> list[Answer]:
    """All requests together, `bad` failing at `place`. warm: the prefix is in the cache by then."""
    texts = prompts(vocab)
    if warm:
        engine.add(texts[0], replace(PARAMS, max_tokens=1))
        drain(engine)
    ids = [engine.add(text, replace(PARAMS, seed=seed)) for seed, text in enumerate(texts)]
    marked = engine.runner = Marked(engine.runner, ids[bad], place)
    answers = drain(engine)
    assert marked.failures[-1] == 1, "it was alone in the end"
    # A prefix that several begin with is computed by one while the others wait; else it was in a batch first.
    assert place < COMMON or max(marked.failures) > 1
    return [answers[key] for key in ids]


# Who fails and where: in what the others wait for, in a prompt of its own behind that, at the first token, later.
PLACES = [(0, 10), (0, COMMON - 1), (2, COMMON + 18), (2, COMMON + 21), (2, COMMON + 35)]


def check(answers: list[Answer], expected: list[list[int]], bad: int) -> None:
    failed, whole = answers.pop(bad), expected.pop(bad)
    assert (failed.reason, failed.error) == ("error", "RuntimeError: a marked request")
    assert failed.tokens == whole[: len(failed.tokens)]
    assert len(failed.tokens) < len(whole)
    assert [answer.reason for answer in answers] == ["length"] * len(answers)
    assert [answer.tokens for answer in answers] == expected


def canvas(reuse: str, **config: Any) -> Engine:
    options = {"block_size": "8", "reuse": reuse}
    return make_engine(FULL_TRAITS, max_num_batched_tokens=1000, options=options, **config)


@pytest.mark.parametrize("reuse", ["none", "prefix", "dual", "vicinity"])
def test_only_the_marked_canvas_fails(reuse: str) -> None:
    """A canvas is fed whole from its first step on, so nothing of it is decided."""
    answers = disturbed(canvas(reuse), VOCAB, BAD, COMMON + 35, warm=False)
    assert answers[BAD].tokens == []
    check(answers, list(undisturbed(canvas, reuse, VOCAB)), BAD)


@pytest.mark.parametrize(("bad", "place"), PLACES)
@pytest.mark.parametrize("kind", ["radix", "paged", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_marked_request_fails(family: str, kind: str, bad: int, place: int) -> None:
    budget = 500 if kind == "none" else 90
    engine = fake(family, cache=kind, max_num_batched_tokens=budget)
    answers = disturbed(engine, VOCAB, bad, place, warm=False)
    check(answers, list(undisturbed(fake, family, VOCAB)), bad)
    assert engine.metrics.finished == {"error": 1, "length": 5}


@pytest.mark.parametrize(("bad", "place"), PLACES[2:])
@pytest.mark.parametrize("case", NATIVE, ids=str)
def test_only_the_marked_request_fails_on_real_kernels(case: Any, bad: int, place: int) -> None:
    engine = native(case, max_num_batched_tokens=90)
    answers = disturbed(engine, test_native.VOCAB, bad, place, warm=True)
    check(answers, list(undisturbed(native, case, test_native.VOCAB)), bad)


def test_few_forwards_find_the_one_that_fails() -> None:
    engine = make_engine(num_pages=200)
    ids = [engine.add([i + 1] * 3, PARAMS) for i in range(32)]
    engine.step()
    marked = engine.runner = Marked(engine.runner, ids[13], 3)
    engine.step()
    assert len(marked.sizes) == 1 + 2 * 5
    drain(engine)


def test_several_fail_each_with_its_own_error() -> None:
    engine = make_engine()
    ids = [engine.add([i + 1] * 3, PARAMS) for i in range(4)]
    inner = Marked(engine.runner, ids[0], 4)
    engine.runner = Marked(inner, ids[3], 4)
    answers = drain(engine)
    assert [answers[key].reason for key in ids] == ["error", "length", "length", "error"]


def test_a_fault_that_passes_costs_nobody_anything(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    ids = [engine.add(text, replace(PARAMS, seed=i)) for i, text in enumerate(prompts(VOCAB))]
    answers: dict[int, Answer] = {}
    step(engine, answers)
    runner_of(engine).error = OSError("disk on fire")
    with caplog.at_level(logging.WARNING):
        drain(engine, answers)
    assert [answers[key].tokens for key in ids] == undisturbed(fake, "causal", VOCAB)
    assert "disk on fire" in caplog.text


def test_when_every_forward_fails_every_request_ends_and_says_why() -> None:
    engine = make_engine(max_num_seqs=2)
    ids = [engine.add([i + 1], replace(PARAMS, n=2, seed=i)) for i in range(3)]

    class Dead(Marked):
        def forward(self, inputs: list[StepInput]) -> list[Floats]:
            raise OSError("no device")

    engine.runner = Dead(engine.runner, 0, 0)
    answers = drain(engine)
    assert sorted(answers) == sorted([*ids, *(key + 1 for key in ids)])
    assert {answer.error for answer in answers.values()} == {"OSError: no device"}


def test_without_memory_the_step_fails() -> None:
    engine = make_engine()
    for i in range(3):
        engine.add([i + 1], PARAMS)
    runner_of(engine).error = MemoryError()
    with pytest.raises(MemoryError):
        engine.step()
    drain(engine)


def raising(*_: Any) -> Any:
    raise ZeroDivisionError("oops")


def other_parts(engine: Engine, key: int, part: str, method: str) -> None:
    """Give one request parts like the engine's own, of which one method fails."""
    request = engine._requests[key]
    own = getattr(request, part)
    twin = type(own)(own.options, own.traits)
    setattr(twin, method, raising)
    setattr(request, part, twin)


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("part", "method"),
    [("planner", "next"), ("planner", "absorb"), ("decoder", "best"), ("decoder", "decide_all")],
)
def test_parts_that_fail_for_one_request_end_it_alone(
    family: str, part: str, method: str, after: int
) -> None:
    engine = fake(family)
    texts = prompts(VOCAB)
    ids = [engine.add(text, replace(PARAMS, seed=seed)) for seed, text in enumerate(texts)]
    answers: dict[int, Answer] = {}
    for _ in range(after):
        step(engine, answers)
    other_parts(engine, ids[BAD], part, method)
    drain(engine, answers)
    assert answers.pop(ids[BAD]).error == "ZeroDivisionError: oops"
    others = [tokens for i, tokens in enumerate(undisturbed(fake, family, VOCAB)) if i != BAD]
    assert [answer.tokens for _, answer in sorted(answers.items())] == others


def test_a_decoder_that_fails_for_one_request_serves_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_engine()
    texts = prompts(VOCAB)
    ids = [engine.add(text, replace(PARAMS, seed=seed)) for seed, text in enumerate(texts)]
    decoder = engine._requests[ids[0]].decoder
    decide_all = decoder.decide_all

    def faulty(items: list[Any]) -> Any:
        if any(item.seq.request_id == ids[BAD] and item.seq.length > 100 for item in items):
            raise ZeroDivisionError("oops")
        return decide_all(items)

    monkeypatch.setattr(decoder, "decide_all", faulty)
    answers = drain(engine)
    assert answers.pop(ids[BAD]).error == "ZeroDivisionError: oops"
    others = [tokens for i, tokens in enumerate(undisturbed(fake, "causal", VOCAB)) if i != BAD]
    assert [answer.tokens for _, answer in sorted(answers.items())] == others
