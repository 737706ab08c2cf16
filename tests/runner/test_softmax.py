"""Attention with a maximum known beforehand: the same results, whatever happens to a row's sum, and whoever is beside."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
import pytest

from plait.core.config import PAGE
from plait.core.window import Floats
from plait.kernels.plan import PackedMatrix, Pool, make_plan, runnable_isas
from plait.kvcache.pool import KVLayout
from plait.kvcache.pool import Pool as Pages
from plait.models.base import AttentionSpec
from plait.runner import softmax

HEADS, KV_HEADS, WIDTH = 6, 2, 64
SCALE = WIDTH**-0.5
SPEC = AttentionSpec(0, HEADS, KV_HEADS, WIDTH, SCALE)
Q, KV = HEADS * WIDTH, KV_HEADS * WIDTH


class Attention:
    """A plan of one attention op; request i has `lengths[i]` rows, fed one chunk after the other."""

    def __init__(self, lengths: list[int], kv: str = "f32", isa: str = "auto") -> None:
        self.lengths = lengths
        self.pages = Pages(KVLayout(1, KV_HEADS, WIDTH, kv), sum(-(-n // PAGE) for n in lengths))
        shape = (1, KV_HEADS, WIDTH, self.pages.num_pages)
        threads = Pool(2)
        self.plan = make_plan([Q + 2 * KV, Q], 1, shape, kv, False, isa, threads)
        table = PackedMatrix("f32", 1, 32, np.zeros(128, np.uint8), threads)
        self.plan.embed(table, (0, 0, 32, False), 1.0)
        views = (0, 0, Q, False), (0, Q, KV, False), (0, Q + KV, KV, False), (1, 0, Q, False)
        self.plan.attention(*views, 0, HEADS, SCALE, 0)

    def run(self, hidden: list[Floats], last: int) -> list[Floats]:
        """All but the `last` rows of each request in a first step, those in a second; returns the second's."""
        firsts = [len(rows) - last for rows in hidden]
        self._step(hidden, [0] * len(firsts), firsts)
        return self._step(hidden, firsts, self.lengths)

    def _step(self, hidden: list[Floats], starts: list[int], ends: list[int]) -> list[Floats]:
        place, windows, pages = array("i"), array("i"), array("i")
        fed = []
        for rows, start, end in zip(hidden, starts, ends, strict=True):
            windows.extend((len(place), end - start, start, 0, 0, len(pages), -1))
            place.extend(range(start, end))
            first = len(pages)
            pages.extend(range(first, first + -(-len(rows) // PAGE)))
            fed.append(rows[start:end])
        none, wanted = array("i", [0] * len(place)), array("i", range(len(place)))
        out = np.zeros((len(place), Q), np.float32)
        self.plan.run(
            none, place, windows, pages, b"", wanted, none, [], none, self.pages.data, out,
            None, None, np.concatenate(fed), 1, 2, (0, 0, Q + 2 * KV, False), None,
        )  # fmt: skip
        return np.split(out, np.cumsum([len(rows) for rows in fed])[:-1])


def hidden(length: int, seed: int, loud: float = 1.0) -> Floats:
    rows = np.random.default_rng(seed).normal(size=(length, Q + 2 * KV)).astype(np.float32)
    rows[:, :Q] *= loud
    return rows


def exact(rows: Floats) -> Floats:
    """In double precision, [rows, Q]."""
    x = rows.astype(np.float64).reshape(len(rows), -1, WIDTH)
    q, k, v = x[:, :HEADS], x[:, HEADS : HEADS + KV_HEADS], x[:, HEADS + KV_HEADS :]
    k, v = (np.repeat(side, HEADS // KV_HEADS, axis=1) for side in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k) * SCALE
    scores = np.where(np.tri(len(rows), dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    mixed = np.einsum("hij,jhd->ihd", weights / weights.sum(axis=2, keepdims=True), v)
    return np.asarray(mixed.reshape(len(rows), Q))


def fixed(value: float) -> list[float]:
    return [value] * HEADS


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize("maximum", [0.0, 3.0, -100.0, 100.0, 1e30, -1e30])
def test_whatever_the_maximum_the_result_is_that_of_double_precision(
    isa: str, maximum: float
) -> None:
    rows = hidden(600, 1)
    attention = Attention([600], isa=isa)
    attention.plan.unify(1, fixed(maximum))
    (found,) = attention.run([rows], last=40)
    np.testing.assert_allclose(found, exact(rows)[-40:], atol=1e-5)
    unified, redone = attention.plan.attention_counts()
    assert redone == (unified if abs(maximum) >= 100 else 0)


@pytest.mark.parametrize("kv", ["f32", "f16", "int8"])
@pytest.mark.parametrize("maximum", [200.0, -200.0])
def test_what_leaves_the_range_is_computed_as_if_there_were_no_other_form(
    kv: str, maximum: float
) -> None:
    rows = hidden(300, 2)
    attention = Attention([300], kv)
    attention.plan.unify(1, fixed(maximum))
    (found,) = attention.run([rows], last=1)
    (plain,) = Attention([300], kv).run([rows], last=1)
    np.testing.assert_array_equal(found, plain)
    assert attention.plan.attention_counts()[1] > 0


@pytest.mark.parametrize("kv", ["f32", "f16", "int8"])
@pytest.mark.parametrize("last", [1, 3, 100])
def test_a_row_alone_is_the_row_in_a_batch_though_some_fall_back(kv: str, last: int) -> None:
    lengths = [130, 700, 520, 290]
    each = [hidden(n, n, loud) for n, loud in zip(lengths, (1.0, 40.0, 12.0, 25.0), strict=True)]
    together = Attention(lengths, kv)
    together.plan.unify(1, fixed(20.0))
    found = together.run(each, last)
    unified, redone = together.plan.attention_counts()
    assert 0 < redone < unified
    for rows, own in zip(each, found, strict=True):
        alone = Attention([len(rows)], kv)
        alone.plan.unify(1, fixed(20.0))
        np.testing.assert_array_equal(alone.run([rows], last)[0], own)


def test_maxima_are_learned_from_what_was_watched() -> None:
    rows = hidden(64, 3)
    attention = Attention([64])
    attention.plan.watch(True)
    attention.run([rows], last=32)
    attention.plan.watch(False)
    x = rows.reshape(64, -1, WIDTH).astype(np.float64)
    keys = np.repeat(x[:, HEADS : HEADS + KV_HEADS], HEADS // KV_HEADS, axis=1)
    scores = np.einsum("ihd,jhd->hij", x[32:, :HEADS], keys) * SCALE
    largest = np.where(np.tri(64, dtype=bool)[32:], scores, -np.inf).max(axis=2)
    np.testing.assert_allclose(attention.plan.maxima(1), largest.mean(axis=1), rtol=1e-5)


def test_maxima_that_do_not_fit_are_refused() -> None:
    plan = Attention([1]).plan
    for maxima in ([0.0], fixed(float("nan")), fixed(float("inf"))):
        with pytest.raises(ValueError, match="unify"):
            plan.unify(1, maxima)
    with pytest.raises(ValueError, match="not an attention op"):
        plan.unify(0, fixed(0.0))


def test_only_what_was_measured_to_be_faster_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "cache_root", lambda: tmp_path)
    fast, slow = softmax.key("f16", SPEC), softmax.key("int8", SPEC)
    assert (fast, slow) == ("f16 64x3", "int8 64x3")
    softmax.save(fast, "generic", 1.04)
    softmax.save(slow, "generic", 1.004)
    assert [softmax.is_unified(each, "generic") for each in (fast, slow)] == [True, False]
    assert not softmax.is_unified(fast, "auto") or runnable_isas()[-1] == "generic"
    monkeypatch.setattr(softmax, "processor", lambda: "another")
    assert not softmax.is_unified(fast, "generic")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": 1, "gain": 2}', "[" * 100_000])
def test_a_damaged_file_chooses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(softmax, "cache_root", lambda: tmp_path)
    file = tmp_path / "softmax" / "generic.json"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    assert not softmax.is_unified(softmax.key("f16", SPEC), "generic")
    softmax.save(softmax.key("f16", SPEC), "generic", 2.0)
    assert softmax.is_unified(softmax.key("f16", SPEC), "generic")
