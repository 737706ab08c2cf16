"""Only the best logits asked for: those that are given are exact and none of the best is missing."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.config import PAGE
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import Runner, StepInput
from plait.core.window import Floats, KVView, Window
from tests.oracle import MODELS, fixture, open_model, prompts
from tests.runner.test_executors import Bench, feed
from tests.synthetic import CONFIGS


def holds_the_best(got: Floats, whole: Floats, count: int) -> None:
    """The contract of core.step.Runner for `best` = count."""
    is_given = got > -np.inf
    np.testing.assert_array_equal(got[is_given], whole[is_given])
    last = np.partition(whole, -count, axis=1)[:, -count]
    assert np.all(is_given | (whole < last[:, None]))


def both(runner: Runner, item: StepInput, count: int) -> tuple[Floats, Floats]:
    whole = runner.forward([item._replace(best=0)])[0].copy()
    return runner.forward([item._replace(best=count)])[0], whole


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
