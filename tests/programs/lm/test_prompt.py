"""The state of a program: what is computed once, and that nothing but the program decides what comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from plait import LLM, SamplingParams
from plait.core.errors import UserError
from plait.programs.lm import (
    Prompt,
    beam,
    characters,
    contains,
    one_of,
    regex,
    run,
    run_async,
    run_many,
    sample,
    stops_at,
    tokens,
)
from tests.fakes import runner_of
from tests.llm.fakes import make_llm


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch, make_llm(patch, proposer="none") as one:
        yield one


async def story(p: Prompt, name: str) -> list[Any]:
    """Holes of several kinds, a fork, draws and a beam."""
    p += f"once upon a time {name} said "
    found: list[Any] = [await p.gen(max_tokens=9, decoder=sample(1.0))]
    p += " and then "
    found.append(await p.select(["yes", "no", "not at all"]))
    twin = p.fork()
    p += " but "
    twin += " or "
    found += await asyncio.gather(
        p.gen(regex("[a-k]{3,7}"), decoder=sample(2.0)),
        twin.gen(max_tokens=5, decoder=sample(2.0)),
    )
    found.append(await p.gen(regex("[a-z]{4}"), decoder=beam(3)))
    found.append((await p.distribution(["x", "xy", "z"])).probabilities)
    return found


NAMES = ["Ann", "Bob", "Cid", "Dan", "Eve", "Flo"]


def test_programs_in_one_batch_are_each_what_it_is_alone(llm: LLM) -> None:
    alone = [run(llm, story, name, seed=3) for name in NAMES]
    llm.reset_prefix_cache()
    runner = runner_of(llm.worker.engine)
    runner.batches.clear()
    many = run_many(llm, story, [(name,) for name in NAMES], seed=3)
    assert max(map(len, runner.batches)) >= len(NAMES)
    assert [one.value for one in many] == [one.value for one in alone]
    assert [one.text for one in many] == [one.text for one in alone]
    bills = [(one.ledger.billable_tokens, one.ledger.resent_tokens) for one in many]
    assert bills == [(one.ledger.billable_tokens, one.ledger.resent_tokens) for one in alone]
    assert len({str(one.value) for one in many}) == len(NAMES)
    few = run_many(llm, story, [(name,) for name in NAMES], seed=3, at_once=2)
    assert [one.value for one in few] == [one.value for one in many]


def test_another_seed_draws_anew(llm: LLM) -> None:
    assert run(llm, story, "Ann", seed=3).value != run(llm, story, "Ann", seed=4).value


def test_what_goes_on_from_a_kept_state_is_what_a_replay_gives() -> None:
    with pytest.MonkeyPatch.context() as patch:
        with make_llm(patch, proposer="none") as kept:
            forked = run(kept, story, "Ann", seed=1)
        with make_llm(patch, proposer="none", enable_prefix_caching=False) as nothing:
            replayed = run(nothing, story, "Ann", seed=1)
    assert forked.value == replayed.value
    assert forked.text == replayed.text
    assert forked.ledger.cached_tokens > 0
    assert replayed.ledger.cached_tokens == 0


def test_a_hole_is_the_plain_request(llm: LLM) -> None:
    async def program(p: Prompt) -> str:
        p += "once upon a time"
        await p.gen(max_tokens=20)
        return await p.gen(max_tokens=20)

    (output,) = llm.generate(
        "once upon a time", SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=False)
    )
    done = run(llm, program)
    assert done.text.startswith("once upon a time" + output.outputs[0].text[:40])


def test_no_part_of_the_state_is_computed_twice(llm: LLM) -> None:
    async def program(p: Prompt) -> None:
        for size in (5, 31, 32, 33, 40, 3):
            p += "abcdefghijklmnopqrstuvwxyz"[: size % 26 + 1]
            await p.gen(regex(f"[a-z]{{{size}}}"), decoder=sample(1.0))

    llm.reset_prefix_cache()
    done = run(llm, program, seed=9)
    assert done.ledger.positions == done.ledger.billable_tokens - 1, "all but the last token"
    assert done.ledger.cached_tokens + done.ledger.positions == (
        done.ledger.resent_tokens - 6  # each request's last token is not fed by it
    )


def test_forks_of_a_text_that_nobody_has_read_compute_it_once(llm: LLM) -> None:
    async def program(p: Prompt) -> list[str]:
        p += "a text that all of them go on from"
        twins = [p.fork() for _ in range(5)]
        return await asyncio.gather(*(twin.gen(regex("[a-z]{3}")) for twin in twins))

    llm.reset_prefix_cache()
    done = run(llm, program)
    assert len(set(done.value)) == 1
    length = len("a text that all of them go on from")
    # Behind a prompt that is all there, the last position has to be fed for its row.
    assert done.ledger.positions == length + 5 * 3
    assert done.ledger.prompt_tokens == length


def test_what_a_constraint_leaves_no_choice_about_costs_no_step(llm: LLM) -> None:
    async def program(p: Prompt) -> str:
        p += "abc "
        return await p.select(["unmistakable", "quite"])

    done = run(llm, program)
    assert done.ledger.forced_tokens >= 3
    assert done.ledger.forwards <= done.ledger.generated_tokens - 3


def test_spaces_wait_for_the_word_behind_them(llm: LLM) -> None:
    async def program(p: Prompt) -> str:
        p += "abc "
        assert p.text == "abc "
        value = await p.select(["x", "y"])
        assert p.text == f"abc {value}"
        return value

    assert run(llm, program).value in ("x", "y")


def test_what_ends_an_answer_is_kept_or_not(llm: LLM) -> None:
    async def program(p: Prompt, how: str) -> tuple[str, str]:
        p += "abcdef"
        value = await p.gen(max_tokens=200, decoder=sample(1.0), **{how: ["a", "e", "k"]})  # type: ignore[call-overload]
        return value, p.text

    at, all_at = run(llm, program, "stops_at").value
    before, all_before = run(llm, program, "stops_before").value
    assert at[-1] in "aek"
    assert at[:-1] == before
    assert not set(before) & set("aek")
    assert all_at == "abcdef" + at
    assert all_before == "abcdef" + before


def test_a_constraint_and_a_stop_hold_together(llm: LLM) -> None:
    async def program(p: Prompt) -> str:
        p += "abcdef"
        held = ~contains("b") & characters(3, 12) & regex("[a-h]*")
        return await p.gen(held & stops_at("g", "h"), decoder=sample(1.0))

    for seed in range(20):
        value = run(llm, program, seed=seed).value
        assert 3 <= len(value) <= 12
        assert "b" not in value
        assert set(value) <= set("abcdefgh")
        assert not set(value[:-1]) & set("gh")


def test_a_conversation_goes_on_where_it_was(llm: LLM) -> None:
    async def program(p: Prompt) -> None:
        p.message("user", "hello")
        await p.gen(regex("[a-z]{6}"))
        p.message("user", "bye")
        await p.gen(regex("[a-z]{6}"))

    llm.reset_prefix_cache()
    done = run(llm, program)
    assert done.ledger.positions == done.ledger.billable_tokens - 1


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda p: p.gen(regex("[a-z]{9}"), max_tokens=4), "does not fit its constraint yet"),
        (lambda p: p.gen(regex("[a-z]{9}"), max_tokens=4, decoder=beam(2)), "does not fit"),
        (lambda p: p.gen(dict), "cannot hold"),
        (lambda p: p.gen(tokens(at_least=3), stops_at="a"), "at least so many tokens"),
        (lambda p: p.gen(regex("a") | tokens(at_most=3)), "within 'or'"),
        (lambda p: p.gen(~stops_at("a") & one_of(["b"]), "c"), "no constraint"),
        (lambda p: p.gen(regex(r"(a)\1")), "regex"),
        (lambda p: p.gen(max_tokens=0), "max_tokens"),
    ],
)
def test_what_cannot_be_filled_says_why(llm: LLM, fill: Any, words: str) -> None:
    async def program(p: Prompt) -> None:
        p += "abc"
        await fill(p)

    with pytest.raises(UserError, match=words) as refusal:
        run(llm, program)
    assert refusal.value.hint
    assert not llm.worker.engine.has_work


def test_a_program_that_raises_ends_what_it_had_asked_for(llm: LLM) -> None:
    async def program(p: Prompt, number: int) -> None:
        p += "abc"
        if number == 2:
            raise ValueError("no")
        await p.gen(regex("[a-z]*"), max_tokens=3000)

    with pytest.raises(ValueError, match="no"):
        run_many(llm, program, [(i,) for i in range(4)])
    llm.worker.call(lambda engine: engine.end_all).result()
    assert llm.generate("ab", SamplingParams(max_tokens=1))[0].finished


def test_within_a_loop_a_program_is_awaited(llm: LLM) -> None:
    async def program(p: Prompt) -> str:
        p += "abc"
        return await p.select(["x"])

    async def outside() -> str:
        with pytest.raises(UserError, match="event loop"):
            run(llm, program)
        return str((await run_async(llm, program)).value)

    assert asyncio.run(outside()) == "x"


def test_what_is_no_program_is_refused(llm: LLM) -> None:
    with pytest.raises(UserError, match="is no program"):
        run(llm, lambda p: None)  # type: ignore[arg-type, return-value]
