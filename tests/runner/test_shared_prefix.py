"""Requests whose page tables begin alike are attended together: the bits are those of each alone."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import FULL, KVView, Pattern, PatternKind
from tests.runner.test_executors import TREE_MASK, Bench, bits, feed
from tests.synthetic import CONFIGS

PAGE = 32


def branch(bench: Bench, trunk: KVView, tokens: np.ndarray, shared: int) -> tuple[Sequence, KVView]:
    """A sequence over `tokens` that has its first `shared` slots in the pages of another."""
    assert shared % PAGE == 0
    common = trunk.pages[: shared // PAGE]
    own = [bench._free.pop() for _ in range(-(-len(tokens) // PAGE) - len(common))]
    pages = np.concatenate([common, np.array(own, np.int32)])
    sequence = Sequence(0, tokens, SamplingParams(), limit=len(tokens), seed=0)
    return sequence, KVView(pages.astype(np.int32))


def texts(vocab: int, lengths: list[tuple[int, int]]) -> list[np.ndarray]:
    """Token ids: text i shares its first `shared` ids with text 0 and then goes its own way."""
    generator = np.random.default_rng(3)
    trunk = generator.integers(0, vocab, 2000, dtype=np.int32)
    tails = [generator.integers(0, vocab, length, dtype=np.int32) for _, length in lengths]
    return [
        np.concatenate([trunk[:shared], tail[: length - shared]])
        for (shared, length), tail in zip(lengths, tails, strict=True)
    ]


# (shared slots, length): a long trunk, forks at several depths, inside and at the edges of chunks.
FORKS = [(352, 352), (320, 351), (320, 321), (256, 300), (256, 257), (64, 330), (64, 70), (0, 40)]
# As many others as make units of whole requests, though some end chunks before those beside them.
MANY = [
    (352, 352),
    (320, 330),
    (64, 70),
    (64, 600),
    *((0, length) for length in range(600, 720, 12)),
]


@pytest.mark.parametrize("kv", ["f16", "int8"])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("forks", [FORKS, MANY], ids=["forks", "many"])
def test_forks_of_a_prefix_equal_separate_requests_bit_for_bit(
    name: str, kv: str, forks: list[tuple[int, int]]
) -> None:
    apart, together = (Bench(CONFIGS[name], kv=kv, num_pages=256) for _ in range(2))
    tokens = texts(apart.model.config.vocab_size, forks)
    singles = []
    for text in tokens:
        item = branch(apart, KVView(np.zeros(0, np.int32)), text, 0)
        apart.native.forward([feed(item, 0, len(text) - 1)])
        singles.append(bits(apart.native.forward([feed(item, len(text) - 1, len(text))])[0]))
        apart._free.extend(item[1].pages.tolist())
    trunk = branch(together, KVView(np.zeros(0, np.int32)), tokens[0], 0)
    together.native.forward([feed(trunk, 0, len(tokens[0]) - 1)])
    items = [trunk]
    for (shared, length), text in zip(forks[1:], tokens[1:], strict=True):
        items.append(branch(together, trunk[1], text, shared))
        if length - 1 > shared:
            together.native.forward([feed(items[-1], shared, length - 1)])
    step = [feed(item, len(item[0].tokens) - 1, len(item[0].tokens)) for item in items]
    assert [bits(rows) for rows in together.native.forward(step)] == singles


def test_drafts_and_blocks_on_one_prefix_equal_each_alone_bit_for_bit() -> None:
    bench = Bench(CONFIGS["llama"], kv="int8", num_pages=96)
    tokens = texts(bench.model.config.vocab_size, [(64, 64)] + [(64, 68)] * 5)
    trunk = branch(bench, KVView(np.zeros(0, np.int32)), tokens[0], 0)
    bench.native.forward([feed(trunk, 0, 64)])
    tree = Pattern(PatternKind.TREE, 0, TREE_MASK)
    patterns = [tree, FULL, tree, FULL, tree]
    step: list[StepInput] = []
    for text, pattern in zip(tokens[1:], patterns, strict=True):
        step.append(feed(branch(bench, trunk[1], text, 64), 64, 68, pattern=pattern))
    together = [bits(rows) for rows in bench.native.forward(step)]
    assert together == [bits(bench.native.forward([one])[0]) for one in step]
