"""Beams and distributions equal brute force on a model small enough to ask about every text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from plait import LLM
from plait.core.errors import UserError
from plait.core.window import CAUSAL
from plait.programs.lm import Prompt, beam, best_of, one_of, regex, run, sample
from plait.programs.lm import distribution as exact
from tests.fakes import EOS, VOCAB, plain_logits
from tests.llm.fakes import NAMES, make_llm

START = "abcDEF"
ID = {name: i for i, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch, make_llm(patch, proposer="none") as one:
        yield one


def ids_of(text: str) -> list[int]:
    return [ID[letter.replace(" ", "Ġ").replace("\n", "Ċ")] for letter in text]


def logs(tokens: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    """Log-probabilities of what comes next, float64 [vocabulary]."""
    row = plain_logits(np.array(tokens, np.int32), CAUSAL, len(tokens) - 1)[0].astype(np.float64)
    return np.asarray(row - row.max() - math.log(np.exp(row - row.max()).sum()))


def score(prompt: list[int], answer: list[int]) -> float:
    """log p(answer | prompt)."""
    return sum(float(logs(prompt + answer[:i])[token]) for i, token in enumerate(answer))


def likeliest(texts: list[str]) -> tuple[str, float]:
    scored = {text: score(ids_of(START), ids_of(text)) for text in texts}
    best = max(scored, key=scored.__getitem__)
    return best, scored[best]


def naive_beam(letters: str, size: int, n: int) -> str:
    """Texts of exactly `size` of these letters."""
    found: list[tuple[float, str]] = [(0.0, "")]
    for _ in range(size):
        longer = [
            (log + float(logs(ids_of(START + text))[ID[one]]), text + one)
            for log, text in found
            for one in letters
        ]
        found = sorted(longer, reverse=True)[:n]
    return found[0][1]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_beam_is_the_naive_one(llm: LLM, n: int) -> None:
    async def program(p: Prompt) -> str:
        p += START
        return await p.gen(regex("[a-f]{4}"), decoder=beam(n))

    assert run(llm, program).value == naive_beam("abcdef", 4, n)


def test_a_beam_as_wide_as_all_texts_finds_the_likeliest(llm: LLM) -> None:
    every = ["".join(letters) for letters in itertools.product("xyz", repeat=3)]

    async def program(p: Prompt, n: int) -> str:
        p += START
        return await p.gen(regex("[xyz]{3}"), decoder=beam(n))

    best, _ = likeliest(every)
    assert run(llm, program, len(every)).value == best
    greedy = run(llm, program, 1).value
    assert score(ids_of(START), ids_of(greedy)) <= score(ids_of(START), ids_of(best))


def test_a_beam_over_free_texts_ends_where_the_model_does(llm: LLM) -> None:
    """Every text of up to two tokens, those that the model ends itself among them."""
    prompt, size = ids_of(START), 2
    text_ids = [i for i in range(VOCAB) if i not in (ID["<|im_start|>"], ID["<|mask|>"])]
    scored: dict[tuple[int, ...], float] = {}
    for length in range(size + 1):
        for tokens in itertools.product([i for i in text_ids if i != EOS], repeat=length):
            own = score(prompt, list(tokens))
            if length < size:
                own += float(logs([*prompt, *tokens])[EOS])
            scored[tokens] = own
    best = max(scored, key=scored.__getitem__)

    async def program(p: Prompt) -> str:
        p += START
        await p.gen(max_tokens=size, decoder=beam(70))
        return p.text

    found = ids_of(run(llm, program).value.removeprefix(START))
    assert scored[tuple(found)] == pytest.approx(scored[best], abs=1e-6)


CHOICES = ["ab", "abc", "abcd", "abd", "q", "xyz", "xy"]


def test_a_distribution_is_brute_force_and_sums_to_one(llm: LLM) -> None:
    async def program(p: Prompt) -> exact.Distribution:
        p += START
        return await p.distribution(CHOICES)

    prompt = ids_of(START)
    own = {
        one: math.exp(score(prompt, ids_of(one)))
        - sum(
            math.exp(score(prompt, ids_of(longer)))
            for longer in CHOICES
            if longer.startswith(one)
            and longer != one
            and not any(
                mid != one and mid != longer and mid.startswith(one) and longer.startswith(mid)
                for mid in CHOICES
            )
        )
        for one in CHOICES
    }
    llm.reset_prefix_cache()
    found = run(llm, program)
    total = sum(own.values())
    assert sum(found.value.probabilities.values()) == pytest.approx(1.0, abs=1e-12)
    assert list(found.value.probabilities) == CHOICES
    for one in CHOICES:
        assert found.value[one] == pytest.approx(own[one] / total, rel=1e-6)
    # What begins with one of them: q, x-y, a-b.
    heads = sum(math.exp(score(prompt, ids_of(one))) for one in ("ab", "q", "xy"))
    assert found.value.mass == pytest.approx(heads, rel=1e-6)
    assert found.text == START, "the prompt stays as it is"
    # Behind the prompt, whose last position every choice but one has to feed again for its row.
    most = len(START) + sum(map(len, CHOICES)) + len(CHOICES) - 1
    assert found.ledger.positions <= most


def test_a_space_before_a_choice_belongs_to_it(llm: LLM) -> None:
    async def program(p: Prompt) -> exact.Distribution:
        p += START + " "
        return await p.distribution(["a", "b"])

    prompt = ids_of(START)
    a, b = (math.exp(score(prompt, ids_of(f" {one}"))) for one in "ab")
    assert run(llm, program).value["a"] == pytest.approx(a / (a + b), rel=1e-6)


def test_a_choice_that_others_use_up_has_nothing() -> None:
    found = exact.of(["a", "ab"], [[1], [1, 2]], [math.log(0.5), math.log(0.5)])
    assert found.probabilities == {"a": 0.0, "ab": 1.0}
    assert found.best == "ab"


def test_the_best_of_several_is_the_best_of_the_draws(llm: LLM) -> None:
    async def program(p: Prompt, n: int) -> str:
        p += START
        return await p.gen(regex("[a-z]{5}"), decoder=best_of(n, 2.0))

    prompt = ids_of(START)
    few = run(llm, program, 1, seed=5)
    llm.reset_prefix_cache()
    many = run(llm, program, 8, seed=5)
    assert score(prompt, ids_of(many.value)) >= score(prompt, ids_of(few.value))
    assert many.ledger.generated_tokens == 40
    assert many.ledger.positions == len(START) + 8 * 4 + 7, "the draws share the prompt"


def test_who_may_only_say_one_of_several_says_the_likeliest_letter(llm: LLM) -> None:
    async def program(p: Prompt) -> str:
        p += START
        return await p.select(["b", "k", "z"])

    row = logs(ids_of(START))
    assert run(llm, program).value == max("bkz", key=lambda one: float(row[ID[one]]))


@pytest.mark.parametrize(
    ("texts", "words"), [((), "list of texts"), ("ab", "list of texts"), (["a", "a"], "twice")]
)
def test_what_is_no_choice_is_refused(llm: LLM, texts: list[str], words: str) -> None:
    async def program(p: Prompt) -> None:
        p += START
        await p.distribution(texts)

    with pytest.raises(UserError, match=words):
        run(llm, program)


@pytest.mark.parametrize("make", [beam, best_of])
def test_a_count_that_is_none_is_refused(make: type, llm: LLM) -> None:
    for wrong in (0, 1000, 1.5):
        with pytest.raises(UserError):
            make(wrong)


def test_a_draw_keeps_to_its_constraint(llm: LLM) -> None:
    async def program(p: Prompt) -> str:
        p += START
        return await p.gen(one_of(["abc", "abd", "xyz"]), decoder=sample(3.0))

    found = {run(llm, program, seed=seed).value for seed in range(12)}
    assert found <= {"abc", "abd", "xyz"}
    assert len(found) > 1
