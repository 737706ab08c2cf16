"""Verification: the path through a draft, and the distribution of what is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import CAUSAL, Floats, Ints, Pattern, PatternKind, Update, Window
from plait.decoding.verify import Decoder, Options
from tests.fakes import CAUSAL_TRAITS

DECODER = Decoder(Options(), CAUSAL_TRAITS)
DRAWS = 20_000
LETTERS = 6


def window_of(seq: Sequence, drafted: list[int], parents: list[int]) -> Window:
    """The last token of the canvas, and a draft."""
    start, end = seq.length - 1, seq.length + len(drafted)
    depths = [0]
    for parent in parents:
        depths.append(depths[parent] + 1)
    tokens: Ints = np.array([seq.tokens[-1], *drafted], np.int32)
    is_chain = parents == list(range(len(parents)))
    mask = np.ones((end - start, end - start), np.bool_)
    return Window(
        start,
        end,
        np.arange(end - start, dtype=np.int32),
        np.array(depths, np.int32) + seq.length,
        CAUSAL if is_chain else Pattern(PatternKind.TREE, 0, mask),
        seq.length,
        positions=None if is_chain else np.array(depths, np.int32) + start,
        tokens=tokens,
        parents=np.array(parents, np.int32),
    )


def sequence(seed: int = 0, **params: Any) -> Sequence:
    return Sequence(1, np.array([3], np.int32), SamplingParams(**params), limit=20, seed=seed)


def peaks(*best: int) -> Floats:
    rows = np.zeros((len(best), LETTERS), np.float32)
    rows[np.arange(len(best)), best] = 5.0
    return rows


@pytest.mark.parametrize(
    ("drafted", "parents", "best", "written", "accepted"),
    [
        ([1, 2], [0, 1], (1, 2, 4), [1, 2, 4], 2),
        ([1, 2], [0, 1], (1, 5, 4), [1, 5], 1),
        ([1, 2], [0, 1], (5, 2, 4), [5], 0),
        ([1, 2, 4], [0, 1, 0], (4, 2, 4, 5), [4, 5], 0),
        ([1, 2, 4, 4], [0, 1, 0, 1], (1, 4, 0, 0, 3), [1, 4, 3], 1),
        ([], [], (1,), [1], 0),
    ],
)
def test_the_longest_branch_that_was_right_is_written(
    drafted: list[int], parents: list[int], best: tuple[int, ...], written: list[int], accepted: int
) -> None:
    seq = sequence(temperature=0.0)
    update = DECODER.decide(peaks(*best), seq, window_of(seq, drafted, parents))
    assert update.tokens.tolist() == written
    assert update.positions.tolist() == list(range(1, 1 + len(written)))
    assert update.accepted == accepted


def test_a_row_off_the_first_branch_is_not_believed_where_rounding_could_decide() -> None:
    seq = sequence(temperature=0.0)
    rows = peaks(4, 2, 5)
    rows[2, 3] = 4.9
    update = DECODER.decide(rows, seq, window_of(seq, [1, 4], [0, 0]))
    assert (update.tokens.tolist(), update.accepted) == ([4], 0)
    exact = DECODER.decide(rows, seq, window_of(seq, [4, 1], [0, 0]))
    assert exact.tokens.tolist() == [4, 2]


def test_penalties_know_the_drafted_tokens_before_a_row() -> None:
    """Plain decoding would not say 1 a second time, so the drafted second 1 is refused."""
    seq = sequence(temperature=0.0, presence_penalty=2.0)
    rows = np.zeros((3, LETTERS), np.float32)
    rows[:, 1], rows[:, 2] = 3.0, 2.0
    update = DECODER.decide(rows, seq, window_of(seq, [1, 1], [0, 1]))
    assert update.tokens.tolist() == [1, 2]


def test_log_probabilities_come_from_the_rows_of_the_branch() -> None:
    seq = sequence(temperature=0.0, logprobs=1)
    rows = peaks(1, 2, 4)
    update = DECODER.decide(rows, seq, window_of(seq, [1, 2], [0, 1]))
    assert [list(update.logprobs[p].top) for p in (1, 2, 3)] == [[1], [2], [4]]


def test_a_row_that_is_no_number_fails_its_request() -> None:
    seq = sequence(temperature=0.0)
    rows = peaks(1, 2, 4)
    rows[1] = np.nan
    with pytest.raises(FloatingPointError):
        DECODER.decide(rows, seq, window_of(seq, [1, 2], [0, 1]))


def table() -> Floats:
    """Logits behind nothing (row LETTERS) and behind each first token."""
    return np.random.default_rng(5).normal(size=(LETTERS + 1, LETTERS)).astype(np.float32) * 1.5


def shares(row: Floats, temperature: float, top_p: float) -> Floats:
    """The distribution that the parameters make of a row, by the text of decoding/sample.py."""
    share = np.exp((row - row.max()) / temperature)
    share /= share.sum()
    order = np.argsort(-share, kind="stable")
    count = int(np.searchsorted(np.cumsum(share[order]), top_p)) + 1
    share[order[count:]] = 0
    return np.asarray(share / share.sum(), np.float32)


def draw(seed: int, drafted: int, rows: Floats, params: dict[str, Any]) -> tuple[int, int]:
    seq = sequence(seed, **params)
    window = window_of(seq, [drafted], [0])
    found = DECODER.decide(rows[[LETTERS, drafted]], seq, window).tokens.tolist()
    if len(found) == 2:
        return found[0], found[1]
    seq.apply(Update(np.array([1], np.int32), np.array(found, np.int32)))
    more = DECODER.decide(rows[found], seq, window_of(seq, [], []))
    return found[0], int(more.tokens[0])


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_what_is_written_has_the_distribution_of_the_model(temperature: float) -> None:
    """Chi-square over all pairs of tokens, the draft being the second likeliest token."""
    params, rows = {"temperature": temperature, "top_p": 0.9}, table()
    first = shares(rows[LETTERS], temperature, 0.9)
    drafted = int(np.argsort(-first)[1])
    counts = np.zeros((LETTERS, LETTERS))
    for seed in range(DRAWS):
        counts[draw(seed, drafted, rows, params)] += 1
    chance = np.stack([first[t] * shares(rows[t], temperature, 0.9) for t in range(LETTERS)])
    possible = chance > 0
    assert counts[~possible].sum() == 0
    statistic = ((counts - DRAWS * chance)[possible] ** 2 / (DRAWS * chance[possible])).sum()
    freedom = int(possible.sum()) - 1
    # The 99th percentile of chi-square, by Wilson and Hilferty.
    bound = freedom * (1 - 2 / (9 * freedom) + 2.3263 * np.sqrt(2 / (9 * freedom))) ** 3
    assert statistic < bound
