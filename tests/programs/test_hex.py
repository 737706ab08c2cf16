"""A vote over block schedules: its runs are the requests alone, and what most of them say wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from plait import LLM, SamplingParams
from plait.core.errors import UserError
from plait.programs.extract import EXTRACTS, boxed, line, number, whole
from plait.programs.hex import Vote, vote
from tests.fakes import BLOCK_TRAITS, FULL_TRAITS, runner_of
from tests.llm.fakes import make_llm

PROMPT = [3, 1, 4, 1, 5]
SAMPLED = SamplingParams(max_tokens=16, temperature=1.0, ignore_eos=True, seed=11)
SIZES = (2, 4, 16)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch, make_llm(patch, FULL_TRAITS) as one:
        yield one


def test_a_run_is_the_request_alone_under_its_schedule_and_seed(llm: LLM) -> None:
    found = vote(llm, PROMPT, SAMPLED, block_sizes=SIZES, seeds=2, options={"threshold": "0.4"})
    assert [(run.block_size, run.seed) for run in found.runs] == [
        (size, seed) for size in SIZES for seed in (11, 12)
    ]
    for run in found.runs:
        (output,) = llm.generate(
            {"prompt_token_ids": PROMPT},
            replace(SAMPLED, seed=run.seed),
            options={"threshold": "0.4", "block_size": str(run.block_size)},
        )
        assert run.text == output.outputs[0].text
    assert len({run.text for run in found.runs}) == 6


def test_the_runs_share_their_forwards(llm: LLM) -> None:
    runner = runner_of(llm.worker.engine)
    runner.batches.clear()
    vote(
        llm,
        PROMPT,
        SAMPLED,
        block_sizes=SIZES,
        seeds=2,
        decoder="fixed_steps",
        options={"steps": "2"},
    )
    assert max(map(len, runner.batches)) == 6


def first_letter_class(text: str) -> str | None:
    """One of two answers, or none."""
    return {0: None, 1: "odd", 2: "even"}[ord(text[0]) % 3]


def test_most_runs_win_and_the_first_of_equals(llm: LLM) -> None:
    seen: set[bool] = set()
    for seed in range(0, 100, 10):
        params = replace(SAMPLED, seed=seed)
        found = vote(llm, PROMPT, params, block_sizes=SIZES, seeds=3, extract=first_letter_class)
        answers = [run.answer for run in found.runs]
        counts = Counter(answer for answer in answers if answer)
        assert found.votes == counts
        most = [answer for answer in counts if counts[answer] == max(counts.values())]
        assert found.answer == min(most, key=answers.index)
        assert found.text == found.runs[answers.index(found.answer)].text
        seen.add(found.answer == answers[0])
    assert seen == {True, False}, "the vote was the first run every time, or never"


def test_runs_that_come_to_nothing_do_not_vote(llm: LLM) -> None:
    found = vote(llm, PROMPT, SAMPLED, block_sizes=SIZES, extract=lambda _: None)
    assert (found.answer, found.votes, found.text) == (None, {}, found.runs[0].text)


def test_models_by_blocks_vote_too() -> None:
    with pytest.MonkeyPatch.context() as patch, make_llm(patch, BLOCK_TRAITS) as llm:
        found = vote(llm, PROMPT, SAMPLED, block_sizes=(2, 8))
    assert len({run.text for run in found.runs}) == 2


def test_a_stop_text_ends_a_run(llm: LLM) -> None:
    plain = vote(llm, PROMPT, SAMPLED, block_sizes=(4,)).text
    params = replace(SAMPLED, stop=plain[5])
    assert vote(llm, PROMPT, params, block_sizes=(4,)).text == plain[: plain.index(plain[5])]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"block_sizes": ()}, "nothing to vote"),
        ({"block_sizes": (4, 4)}, "nothing to vote"),
        ({"seeds": 0}, "nothing to vote"),
        ({"seeds": 1000}, "too many"),
        ({"block_sizes": (0, 4)}, "block_size=0"),
        ({"options": {"block_size": "4"}}, "differ by"),
        ({"options": {"steps": "4"}}, "no part in use"),
    ],
)
def test_what_is_no_vote_is_refused_and_leaves_nothing_behind(
    llm: LLM, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        vote(llm, PROMPT, SAMPLED, **fields)  # type: ignore[arg-type]
    assert refusal.value.hint
    assert vote(llm, PROMPT, SAMPLED, block_sizes=(4,)).answer
    assert not llm.worker.engine.has_work


def test_a_run_that_breaks_off_is_no_vote(llm: LLM) -> None:
    with pytest.raises(RuntimeError, match="deadline"):
        vote(llm, PROMPT, SAMPLED, block_sizes=SIZES, deadline=1e-9)


def test_more_choices_are_refused(llm: LLM) -> None:
    with pytest.raises(UserError, match="n=2"):
        vote(llm, PROMPT, replace(SAMPLED, n=2))


def test_the_same_seed_gives_the_same_vote(llm: LLM) -> None:
    def again() -> Vote:
        return vote(llm, PROMPT, SAMPLED, block_sizes=SIZES, seeds=2)

    assert again() == again()


def test_what_is_found_in_a_text() -> None:
    assert whole(" a b\n") == "a b"
    assert whole(" \n") is None
    assert line("a\n\n b \n\n") == "b"
    assert number("so 3 and -1,200.50 it is.") == "-1200.5"
    assert number("7.00") == number("it is 7.") == "7"
    assert number("-0.0") == "0"
    assert number("10-4") == number("pages 3-4") == "4"
    assert number("it is .50") == "0.5"
    assert number("007") == "7"
    assert number("none") is None
    assert boxed(r"\boxed{1} or \boxed{\frac{1}{2}} then") == r"\frac{1}{2}"
    assert boxed(r"\boxed{1") is None
    assert set(EXTRACTS) == {"whole", "line", "number", "boxed"}
