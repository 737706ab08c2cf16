"""Only the best logits asked for: those that are given are exact and none of the best is missing."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.config import PAGE
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import Runner, StepInput
from plait.core.window import Floats, KVView, Masks, Window
from tests.oracle import MODELS, fixture, open_model, prompts
from tests.runner.test_executors import Bench, feed
from tests.synthetic import CONFIGS


def holds_the_best(got: Floats, whole: Floats, count: int, masks: Masks | None = None) -> None:
    """The contract of core.step.Runner for `best` = count, of what each row may choose."""
    is_given = got > -np.inf
    np.testing.assert_array_equal(got[is_given], whole[is_given])
    if masks is not None:
        bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")[:, : whole.shape[1]]
        whole = np.where(bits, whole, -np.inf)
    last = np.partition(whole, -count, axis=1)[:, -count]
    assert np.all(is_given | (whole < last[:, None]) | (whole == -np.inf))


def both(
    runner: Runner, item: StepInput, count: int, masks: Masks | None = None
) -> tuple[Floats, Floats]:
    whole = runner.forward([item._replace(best=0)])[0].copy()
    return runner.forward([item._replace(best=count, allowed=masks)])[0], whole


def random_masks(rows: int, vocab: int, seed: int) -> Masks:
    """From a few ids to all of them; ids lie in runs, as those of a grammar do."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.01, 0.2, 0.7, 1.0], (rows, 1))
    runs = rng.random((rows, -(-vocab // 16))) < share
    bits = np.repeat(runs, 16, axis=1)[:, : -(-vocab // 32) * 32]
    padded = np.zeros((rows, -(-vocab // 32) * 32), np.bool_)
    padded[:, : bits.shape[1]] = bits
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint32)


@pytest.mark.parametrize("activations", ["int8", "f32"])
@pytest.mark.parametrize("family", ["llama", "llama-tied-mha", "gemma3"])
@pytest.mark.parametrize("count", [1, 3, 40, 96])
def test_both_executors_keep_the_best(family: str, activations: str, count: int) -> None:
    config = {**CONFIGS[family], "vocab_size": 480}
    bench = Bench(config, matrix_format="q8_0", activations=activations)
    item = feed(bench.sequence(40, 1), 0, 40)
    for runner in (bench.native, bench.reference):
        holds_the_best(*both(runner, item, count), count)
    assert (bench.native.counters()["head_rows"] > 0) == (activations == "int8")


@pytest.mark.parametrize("count", [1, 3, 40])
def test_both_executors_keep_the_best_of_what_may_be_chosen(count: int) -> None:
    bench = Bench({**CONFIGS["llama"], "vocab_size": 480}, matrix_format="q8_0", activations="int8")
    item = feed(bench.sequence(40, 1), 0, 40)
    for seed in range(4):
        masks = random_masks(40, 480, seed)
        for runner in (bench.native, bench.reference):
            holds_the_best(*both(runner, item, count, masks), count, masks)
    one = feed(bench.sequence(9, 2), 8, 9)
    for seed in range(8):
        masks = random_masks(1, 480, seed)
        holds_the_best(*both(bench.native, one, count, masks), count, masks)
    assert bench.native.counters()["head_narrow"] > 0


def test_a_request_that_needs_all_beside_one_that_needs_one() -> None:
    bench = Bench(CONFIGS["llama"], matrix_format="q8_0", activations="int8")
    one, other = (feed(bench.sequence(9, seed), 0, 9) for seed in (1, 2))
    alone = bench.native.forward([other])[0].copy()
    together = bench.native.forward([one._replace(best=1), other])
    np.testing.assert_array_equal(together[1], alone)


def compare(model: str, most_rows: int) -> tuple[int, int]:
    """(rows compared, panels computed per row) along the prompts of the oracle's fixture."""
    loaded = open_model(model, "int8")
    pages = [loaded.pool.allocate() for _ in range(8)]
    num_rows = 0
    for ids in prompts(fixture(model)):
        ids = np.asarray(ids[: 8 * PAGE], np.int32)
        sequence = Sequence(0, ids, SamplingParams(), limit=len(ids) + 1, seed=0)
        for start in range(0, len(ids), PAGE):
            end = min(start + PAGE, len(ids))
            window = Window(start, end, rows=np.arange(end - start, dtype=np.int32))
            view = KVView(np.array(pages[: -(-end // PAGE)], np.int32))
            for count in (1, 50):
                item = StepInput(sequence, window, view)
                holds_the_best(*both(loaded.runner, item, count), count)
            masks = random_masks(end - start, loaded.traits.vocab_size, start)
            holds_the_best(*both(loaded.runner, item, 1, masks), 1, masks)
            num_rows += end - start
        if num_rows >= most_rows:
            break
    counts = loaded.runner.counters()
    assert counts["head_broken"] == 0
    return num_rows, counts["head_panels"] // max(1, counts["head_rows"])


@pytest.mark.timeout(600)
def test_the_best_logits_of_real_hidden_states() -> None:
    num_rows, panels = compare(MODELS[0], 300)
    assert num_rows >= 300
    assert 0 < panels < 49152 // 8 // 2


@pytest.mark.large
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", MODELS)
def test_the_best_logits_of_many_real_hidden_states(model: str) -> None:
    num_rows, _ = compare(model, 4000)
    assert num_rows >= 1000
