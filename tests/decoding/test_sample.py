"""The sample decoder: penalties look at the right tokens."""

from __future__ import annotations

import numpy as np

from plait.core.params import SamplingParams
from plait.core.window import Update
from plait.decoding.sample import Decoder, Options
from tests.decoding.test_conformance import OPEN, logits, masked_sequence, window_of
from tests.fakes import BLOCK_TRAITS, MASK, VOCAB

DECODER = Decoder(Options(), BLOCK_TRAITS)


def test_every_open_target_is_written() -> None:
    rows = logits(4)
    update = DECODER.decide(rows, masked_sequence(), window_of(OPEN))
    assert update.positions.tolist() == OPEN
    rows[:, MASK] = -np.inf
    assert update.tokens.tolist() == rows.argmax(axis=1).tolist()


def test_presence_counts_decided_output_and_neither_prompt_nor_masked_positions() -> None:
    seq = masked_sequence(SamplingParams(temperature=0.0, presence_penalty=1.0))
    rows = np.zeros((1, VOCAB), np.float32)
    rows[0, [11, 9, 5]] = [10.9, 10.5, 10.0]  # 11 stands in the output, 9 and 5 in the prompt
    assert DECODER.decide(rows, seq, window_of([3])).tokens.tolist() == [9]


def test_repetition_counts_the_prompt_too() -> None:
    seq = masked_sequence(SamplingParams(temperature=0.0, repetition_penalty=2.0))
    rows = np.zeros((1, VOCAB), np.float32)
    rows[0, [11, 9, 5, 30]] = [10.9, 10.5, 10.0, 6.0]
    assert DECODER.decide(rows, seq, window_of([3])).tokens.tolist() == [30]


def test_frequency_counts_how_often() -> None:
    seq = masked_sequence(SamplingParams(temperature=0.0, frequency_penalty=1.0))
    seq.apply(Update(np.array([3, 5], np.int32), np.array([12, 12], np.int32)), MASK)
    rows = np.zeros((1, VOCAB), np.float32)
    rows[0, [12, 11]] = [10.0, 9.5]
    assert DECODER.decide(rows, seq, window_of([6])).tokens.tolist() == [11]
