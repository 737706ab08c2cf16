"""Two streams in one batch: what `contrastive` decides is what both prompts, computed by themselves, come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from plait.core.aids import Aids
from plait.core.config import EngineConfig
from plait.core.errors import ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import CAUSAL, Floats
from plait.decoding.contrastive import Options, contrasted
from plait.decoding.degrade import without_examples
from plait.engine.admission import seeds
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.kernels import sampling_reference
from plait.kvcache.pool import Pool
from tests.engine.test_equalities import Case, cases, run
from tests.fakes import (
    BLOCK_TRAITS,
    CAUSAL_TRAITS,
    LAYOUT,
    VOCAB,
    FakeRunner,
    drain,
    make_engine,
    plain_logits,
    runner_of,
    step,
)

KEEP = {"keep": "6"}
CLASSIC = {"mix": "logits", "uncertainty": "1", "head": "0.1", "floor": "0"}


@dataclass
class Letters:
    """A tokenizer for which the text of a prompt is its ids."""

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def rewrite(self, ids: list[int], change: Callable[[str], str]) -> list[int]:
        return [ord(letter) for letter in change("".join(map(chr, ids)))]


class Weak:
    """An amateur: the fake model, with other token ids."""

    def logits(self, seq: Sequence) -> Floats:
        return weak(seq.tokens)


def weak(canvas: Any) -> Floats:
    row: Floats = plain_logits((np.asarray(canvas) + 1) % VOCAB, CAUSAL, len(canvas) - 1)[0]
    return row


def engine_of(aids: Aids | None = None, *, num_pages: int = 400, **config: Any) -> Engine:
    pool = Pool(LAYOUT, num_pages)
    runner = FakeRunner(pool, CAUSAL_TRAITS)
    return assemble(
        EngineConfig("fake", **config), runner, CAUSAL_TRAITS, pool, aids=aids or Aids(Letters())
    )


def formula(own: Floats, other: Floats, options: Options) -> Floats:
    """The text of decoding/contrastive.py, token by token."""
    p, q = (np.exp(z.astype(np.float64) - z.max()) for z in (own, other))
    p, q = p / p.sum(), q / q.sum()
    mean = sum(p) / len(p)
    deviation = (sum((x - mean) ** 2 for x in p) / (len(p) - 1)) ** 0.5
    if deviation * len(p) ** 0.5 > options.uncertainty:
        return own
    found = np.full(len(p), -np.inf)
    for i in range(len(p)):
        if p[i] < options.floor / len(p) or p[i] < options.head * p.max():
            continue
        if options.mix == "logits":
            found[i] = (1 + options.strength) * np.log(p[i]) - options.strength * np.log(q[i])
        elif p[i] > options.strength * q[i]:
            found[i] = np.log(p[i] - options.strength * q[i])
    return found.astype(np.float32) if np.isfinite(found).any() else own


def by_hand(
    case: Case, second: Callable[[list[int]], Floats], options: Options
) -> tuple[list[int], int]:
    """The answer by a plain loop over both readers, and how often the second one changed the logits."""
    prompt, params = case
    canvas, changed = list(prompt), 0
    for _ in range(params.max_tokens or 0):
        own = plain_logits(np.array(canvas, np.int32), CAUSAL, len(canvas) - 1)[0]
        told = formula(own, second(canvas[len(prompt) :]), options)
        changed += told is not own
        tokens, _ = sampling_reference.sample(
            told[None],
            params,
            positions=np.array([len(canvas)], np.int32),
            seed=params.seed or 0,
            history=np.array(canvas, np.int32),
            num_prompt=len(prompt),
        )
        canvas.append(int(tokens[0]))
    return canvas[len(prompt) :], changed


def behind(prompt: list[int]) -> Callable[[list[int]], Floats]:
    """What the fake model says behind another prompt and the answer."""

    def say(answer: list[int]) -> Floats:
        canvas = np.array([*prompt, *answer], np.int32)
        row: Floats = plain_logits(canvas, CAUSAL, len(canvas) - 1)[0]
        return row

    return say


PARAMS = [
    {"temperature": 0.0},
    {"temperature": 0.8, "top_p": 0.95},
    {"temperature": 1.0, "presence_penalty": 0.4},
]
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6] * 9


@pytest.mark.parametrize(
    "mix",
    [{"uncertainty": "0.25"}, CLASSIC, {"strength": "0.3", "head": "0.2", "uncertainty": "0.3"}],
    ids=str,
)
@pytest.mark.parametrize("fields", PARAMS, ids=str)
def test_it_is_what_both_streams_give_by_themselves(
    fields: dict[str, Any], mix: dict[str, str]
) -> None:
    params = SamplingParams(max_tokens=40, ignore_eos=True, seed=5, **fields)
    options = Options(**{k: v if k == "mix" else float(v) for k, v in mix.items()})  # type: ignore[arg-type]
    longer = [*range(50)] * 2
    ways: list[tuple[dict[str, str], list[int]]] = [
        (KEEP, PROMPT[-6:]),
        ({"negative_prompt": " ".join(map(str, longer))}, longer),
        ({"negative_prompt": "7"}, [7]),
    ]
    for given, second in ways:
        engine = engine_of()
        key = engine.add(PROMPT, params, decoder="contrastive", options={**given, **mix})
        wanted, changed = by_hand((PROMPT, params), behind(second), options)
        assert drain(engine)[key].tokens == wanted
        assert changed == 40 if mix is CLASSIC else 0 < changed < 40


def test_the_answer_is_decided_in_as_many_forwards_as_without_a_second_stream() -> None:
    engine = engine_of()
    engine.add(
        PROMPT, SamplingParams(max_tokens=40, ignore_eos=True), decoder="contrastive", options=KEEP
    )
    drain(engine)
    batches = runner_of(engine).batches
    assert len(batches) == 40
    assert [len(batch) for batch in batches] == [2] * 40
    differences = {batch[0][1].end - batch[1][1].end for batch in batches}
    assert differences == {len(PROMPT) - 6}
    assert engine.metrics.num_positions == len(PROMPT) + 6 + 2 * 39


def test_strength_0_is_plain_decoding() -> None:
    plain = run(make_engine(num_pages=400, proposer="none"), cases())
    engine = engine_of(decoder="contrastive", options={"strength": "0"})
    assert run(engine, cases()) == plain
    assert all(len({key for key, _ in batch}) == len(batch) for batch in runner_of(engine).batches)


LONG = [case for case in cases() if len(case[0]) > 6]


def alone(options: dict[str, str]) -> list[tuple[Any, ...]]:
    fields = {"cache": "none", "max_num_batched_tokens": 2048}
    return [
        run(engine_of(decoder="contrastive", options=options, **fields), [case])[0] for case in LONG
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cache": "paged"},
        {"cache": "none", "max_num_batched_tokens": 2048},
        {"max_num_batched_tokens": 40, "max_num_seqs": 4},
        {"max_num_batched_tokens": 3},
        {"max_num_batched_tokens": 2},
        {"num_pages": 20},
        {"planner": "speculative", "decoder": "contrastive(verify)"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "options", [KEEP, {"negative_prompt": " ".join(["4 5 6"] * 40)}], ids=["shorter", "longer"]
)
def test_a_batch_gives_what_each_request_gives_alone(
    fields: dict[str, Any], options: dict[str, str]
) -> None:
    wanted = alone(options)
    engine = engine_of(**{"decoder": "contrastive", "options": options, **fields})
    assert run(engine, LONG) == wanted
    assert wanted != run(make_engine(num_pages=400), LONG)
    if "num_pages" in fields:
        assert engine.metrics.num_preemptions > 0


def test_a_preempted_request_says_the_same() -> None:
    wanted = alone(KEEP)
    engine = engine_of(decoder="contrastive", options=KEEP)
    ids = [engine.add(prompt, params) for prompt, params in LONG]
    answers: dict[int, Any] = {}
    for count in range(200):
        if engine.has_work:
            step(engine, answers)
            engine.preempt(ids[count % len(ids)])
    drain(engine, answers)
    assert [answers[i].tokens for i in ids] == [tokens for tokens, _, _ in wanted]


def test_choices_and_forks_take_their_second_stream_along() -> None:
    params = SamplingParams(n=3, max_tokens=20, seed=4, ignore_eos=True)
    engine = engine_of(decoder="contrastive", options=KEEP)
    first = engine.add(PROMPT, params)
    answers = drain(engine)
    assert len({tuple(answers[first + i].tokens) for i in range(3)}) == 3
    for i in range(3):
        single = engine_of(decoder="contrastive", options=KEEP)
        seed = seeds(params)[i]
        own = SamplingParams(max_tokens=20, seed=seed, ignore_eos=True)
        key = single.add(PROMPT, own)
        assert drain(single)[key].tokens == answers[first + i].tokens
    twins = engine_of(decoder="contrastive", options=KEEP)
    parent = twins.add(PROMPT, SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True))
    found: dict[int, Any] = {}
    for _ in range(5):
        step(twins, found)
    child = twins.fork(parent, seed=1)
    drain(twins, found)
    assert found[child].tokens == found[parent].tokens[-len(found[child].tokens) :]
    assert 10 < len(found[child].tokens) < 20


def test_log_probabilities_are_those_of_the_model() -> None:
    params = SamplingParams(max_tokens=12, temperature=0.0, logprobs=1, prompt_logprobs=0)
    engine = engine_of()
    key = engine.add(PROMPT, params, decoder="contrastive", options=KEEP)
    answer = drain(engine)[key]
    canvas = [*PROMPT, *answer.tokens]
    for place in range(len(PROMPT), len(canvas)):
        row = plain_logits(np.array(canvas[:place], np.int32), CAUSAL, place - 1)[0].astype(
            np.float64
        )
        exact = row[canvas[place]] - np.log(np.exp(row).sum())
        assert answer.logprobs[place - len(PROMPT)].token == pytest.approx(exact)
    assert answer.prompt_logprobs is not None
    assert len(answer.prompt_logprobs) == len(PROMPT)


@pytest.mark.parametrize("fields", PARAMS, ids=str)
def test_an_amateur_is_the_same_mechanism(fields: dict[str, Any]) -> None:
    params = SamplingParams(max_tokens=40, ignore_eos=True, seed=5, **fields)
    options = Options(mix="logits", uncertainty=1.0, head=0.1, floor=0.0)
    engine = engine_of(
        Aids(amateur=Weak(), amateur_name="small"),
        decoder="contrastive",
        options={**CLASSIC, "amateur": "small"},
    )
    key = engine.add(PROMPT, params)
    wanted, changed = by_hand((PROMPT, params), lambda answer: weak([*PROMPT, *answer]), options)
    assert drain(engine)[key].tokens == wanted
    assert changed == 40


def test_an_amateur_that_was_not_loaded_is_refused() -> None:
    with pytest.raises(UserError, match="'big' is not loaded"):
        engine_of().add(PROMPT, SamplingParams(), decoder="contrastive", options={"amateur": "big"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no examples"),
        ({"keep": "72"}, "leaves none of them out"),
        ({"negative_prompt": " "}, "second prompt is empty"),
        ({"keep": "3", "amateur": "small"}, "keep and amateur"),
        ({"mix": "sums"}, "mix='sums'"),
        ({"strength": "-1"}, "strength"),
        ({"uncertainty": "1.5"}, "uncertainty"),
    ],
)
def test_what_gives_nothing_to_contrast_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        engine_of().add(PROMPT, SamplingParams(), decoder="contrastive", options=options)


def test_a_model_of_blocks_and_a_step_of_one_position_are_refused() -> None:
    with pytest.raises(UserError, match="left to right"):
        make_engine(BLOCK_TRAITS).add(PROMPT, SamplingParams(), decoder="contrastive", options=KEEP)
    small = engine_of(max_num_batched_tokens=1)
    with pytest.raises(UserError, match="two positions"):
        small.add(PROMPT, SamplingParams(), decoder="contrastive", options=KEEP)


def test_what_both_streams_need_is_counted() -> None:
    engine = engine_of(num_pages=4)
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    assert engine.add(PROMPT, params) == 0
    with pytest.raises(UserError, match="192 slots"):
        engine.add(PROMPT, params, decoder="contrastive", options=KEEP)
    capped = engine_of(max_request_kv=192)
    key = capped.add(
        PROMPT,
        SamplingParams(max_tokens=None, ignore_eos=True),
        decoder="contrastive",
        options=KEEP,
    )
    assert len(drain(capped)[key].tokens) == 128 - len(PROMPT)
    small = engine_of(max_model_len=100)
    with pytest.raises(ContextLengthError, match="second prompt"):
        small.add(
            PROMPT,
            params,
            decoder="contrastive",
            options={"negative_prompt": " ".join(["1"] * 100)},
        )


def test_rows_that_are_no_numbers_end_the_request_alone() -> None:
    for broken in (0, ~0):
        engine = engine_of(decoder="contrastive", options=KEEP)
        runner_of(engine).broken = {broken}
        params = SamplingParams(ignore_eos=True)
        first, second = (engine.add(PROMPT, params) for _ in range(2))
        answers = drain(engine)
        assert answers[first].error
        assert len(answers[second].tokens) == 16


def test_rows_where_nothing_is_left_stay_as_they_are() -> None:
    own = np.array([1.0, 1.0, 0.9], np.float32)
    assert contrasted(own, own, Options(strength=1.0, uncertainty=1.0)) is own
    sure = np.array([30.0, 0.0, 0.0], np.float32)
    assert contrasted(sure, own, Options()) is sure


EXAMPLES = '''def add(a, b):
    """Add two numbers.

    >>> add(1, 2)
    3
    >>> add(
    ...     2, 2)
    4
    More text is output, too.

    It is this that stays.
    >>> add(0, 0)
    0
    """
'''


def test_examples_of_inputs_and_outputs_are_taken_out() -> None:
    assert without_examples(EXAMPLES) == (
        'def add(a, b):\n    """Add two numbers.\n\n\n    It is this that stays.\n    """\n'
    )
    assert without_examples('    >>> f()\n    3"""\nx') == '"""\nx'
    assert without_examples("a\n... b\n\n") == "a\n... b\n\n"


def test_a_prompt_with_examples_is_contrasted_without_them() -> None:
    text = "f\n>>> 1\n2\n\nend"

    class Bytes(Letters):
        def rewrite(self, ids: list[int], change: Callable[[str], str]) -> list[int]:
            return [c % 60 for c in change(text).encode()]

    params = SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
    engine = engine_of(Aids(Bytes()))
    ids, second = ([c % 60 for c in t.encode()] for t in (text, "f\n\nend"))
    key = engine.add(ids, params, decoder="contrastive")
    assert drain(engine)[key].tokens == by_hand((ids, params), behind(second), Options())[0]
