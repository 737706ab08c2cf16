"""The native sampling ops: token for token against the NumPy twin, and both against the definitions."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait import _C
from plait.core.params import SamplingParams
from plait.core.window import NO_INTS, Floats, Ints
from plait.kernels import sampling, sampling_reference

GREEDY = SamplingParams(temperature=0.0)


def ints(*values: int) -> Ints:
    return np.array(values, np.int32)


def row(*values: float) -> Floats:
    return np.array([values], np.float32)


def one(logits: Floats, params: SamplingParams, *, seed: int = 0, **more: Any) -> int:
    return int(sampling.sample(logits, params, positions=ints(0), seed=seed, **more).tokens[0])


# ---- the generator


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    assert sampling_reference.philox(counter, key) == words


def test_uniform_is_the_same_natively() -> None:
    rng = np.random.default_rng(0)
    for seed, position in rng.integers(0, 2**64, (500, 2), np.uint64).tolist():
        value = sampling.uniform(seed, position)
        assert value == sampling_reference.uniform(seed, position)
        assert 0.0 <= value < 1.0


def test_uniform_numbers_of_neighbours_are_independent() -> None:
    values = np.array([[sampling.uniform(s, p) for p in range(200)] for s in range(200)])
    assert abs(values.mean() - 0.5) < 4 / math.sqrt(12 * values.size)
    for a, b in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / math.sqrt(a.size)


def test_the_exponential_is_the_twins_and_true_to_21_bits() -> None:
    x = np.concatenate([-np.geomspace(1e-30, 86.9, 5000), [0.0, -0.0, -math.log(2), -87.0]])
    x = x.astype(np.float32)
    for value, native, twin in zip(
        x.tolist(),
        map(_C.exp_nonpositive, x.tolist()),
        sampling_reference.exp_nonpositive(x).tolist(),
        strict=True,
    ):
        assert native == twin
        assert native == pytest.approx(math.exp(value), rel=2**-21)


@pytest.mark.parametrize("x", [-87.5, -1e4, -1e38, -math.inf])
def test_the_exponential_is_zero_far_below(x: float) -> None:
    assert _C.exp_nonpositive(x) == 0.0
    assert sampling_reference.exp_nonpositive(np.array([x], np.float32))[0] == 0.0


# ---- native against twin


def random_masks(rng: np.random.Generator, rows: int, vocab: int) -> sampling.Masks:
    """Words that hold everything, nothing, or some bits; more bits than the vocabulary has."""
    words = rng.integers(0, 2**32, (rows, vocab // 32 + 1), np.uint64).astype(np.uint32)
    kind = rng.integers(0, 3, words.shape)
    words[kind == 0], words[kind == 1] = 0, 0xFFFFFFFF
    return words


def random_case(rng: np.random.Generator) -> tuple[Floats, SamplingParams, dict[str, Any]]:
    """Rows with ties, impossible tokens and far outliers, and parameters from one end to the other."""
    vocab = int(rng.integers(1, 400))
    logits = (
        rng.normal(size=(int(rng.integers(1, 5)), vocab)) * rng.choice([0.1, 1, 5, 50])
    ).astype(np.float32)
    if rng.random() < 0.3:
        logits = np.round(logits)
    if rng.random() < 0.3:
        logits[rng.random(logits.shape) < 0.3] = -np.inf
        logits[:, int(rng.integers(vocab))] = 1.0
    params = SamplingParams(
        temperature=float(rng.choice([0.0, 1e-3, 0.3, 0.7, 1.0, 2.0, 100.0])),
        top_k=int(rng.choice([0, -1, 1, 3, 40, 200, 10_000])),
        top_p=float(rng.choice([1.0, 1e-9, 0.1, 0.5, 0.9, 0.999])),
        min_p=float(rng.choice([0.0, 0.01, 0.2, 1.0])),
        typical_p=float(rng.choice([1.0, 1e-9, 0.2, 0.9])),
        repetition_penalty=float(rng.choice([1.0, 0.5, 1.3])),
        presence_penalty=float(rng.choice([0.0, -1.0, 0.7])),
        frequency_penalty=float(rng.choice([0.0, 0.3, -0.5])),
        logit_bias={int(i): float(rng.normal() * 5) for i in rng.integers(0, vocab, 3)},
    )
    history = rng.integers(0, vocab, int(rng.integers(0, 60))).astype(np.int32)
    more = {
        "positions": np.sort(rng.choice(1000, len(logits), replace=False)).astype(np.int32),
        "seed": int(rng.integers(0, 2**64, dtype=np.uint64)),
        "history": history,
        "num_prompt": int(rng.integers(0, len(history) + 1)),
        "forbidden": rng.integers(-3, vocab + 3, 2).astype(np.int32),
        "held": rng.integers(0, vocab, 2).astype(np.int32),
        "num_held": int(rng.integers(0, 3)),
    }
    if rng.random() < 0.4:
        more["masks"] = random_masks(rng, len(logits), vocab)
    return logits, params, more


def test_native_choices_equal_the_twins() -> None:
    rng = np.random.default_rng(1)
    compared = 0
    for _ in range(1500):
        logits, params, more = random_case(rng)
        before = logits.copy()
        try:
            tokens, confidence = sampling_reference.sample(
                logits, params, want_confidence=True, **more
            )
        except FloatingPointError:
            with pytest.raises(FloatingPointError):
                sampling.sample(logits, params, want_confidence=True, **more)
            continue
        native = sampling.sample(logits, params, want_confidence=True, **more)
        np.testing.assert_array_equal(native.tokens, tokens, err_msg=str((params, more)))
        np.testing.assert_array_equal(native.confidence, confidence)
        np.testing.assert_array_equal(logits, before)
        compared += len(tokens)
    assert compared > 3000


def test_top_p_of_large_vocabularies_equals_the_twins() -> None:
    """Rows in which few tokens are near the best, where the native op looks at these alone; thresholds also
    at the very mass of a token."""
    rng = np.random.default_rng(7)
    for case in range(200):
        logits = (rng.normal(size=(1, 6000)) - rng.choice([9.0, 14.0, 40.0])).astype(np.float32)
        near = rng.choice(300, int(rng.integers(1, 60)), replace=False) + int(rng.integers(5600))
        logits[0, near] = -rng.exponential(rng.choice([0.01, 2.0, 4.0]), len(near))
        if case % 3 == 0:
            logits = np.round(logits)
        weight = np.sort(np.exp(logits[0] - logits.max()).astype(np.float64))[::-1]
        edge = float(weight[: int(rng.integers(1, 20))].sum() / weight.sum())
        params = SamplingParams(
            temperature=float(rng.choice([1e-3, 0.7, 1.0, 1.0, 3.0])),
            top_p=float(rng.choice([1e-9, 0.3, 0.9, 0.9999, min(edge, 0.99999)])),
            min_p=float(rng.choice([0.0, 0.2])),
            typical_p=float(rng.choice([1.0, 0.5])),
        )
        rows, positions = np.repeat(logits, 16, axis=0), np.arange(16, dtype=np.int32)
        tokens, _ = sampling_reference.sample(rows, params, positions=positions, seed=case)
        native = sampling.sample(rows, params, positions=positions, seed=case)
        assert native.tokens.tolist() == tokens.tolist(), params


def test_few_allowed_tokens_of_large_vocabularies_give_the_choice_of_the_whole_row() -> None:
    """A row that a mask leaves little of is read by what is left, added up as the whole row would be."""
    rng = np.random.default_rng(8)
    vocab = 6000
    for case in range(300):
        logits = (rng.normal(size=(8, vocab)) * rng.choice([0.1, 1.0, 4.0])).astype(np.float32)
        is_allowed = np.zeros((8, 32 * (vocab // 32 + 1)), np.bool_)
        is_allowed[:, rng.choice(vocab, int(rng.choice([1, 30, 1000, 1499, 1501])))] = True
        params = SamplingParams(
            temperature=float(rng.choice([0.0, 0.7, 1.0, 3.0])),
            top_k=int(rng.choice([0, 0, 0, 5, 5000])),
            top_p=float(rng.choice([1.0, 1.0, 0.5, 0.999])),
            min_p=float(rng.choice([0.0, 0.0, 0.1])),
            typical_p=float(rng.choice([1.0, 1.0, 0.5])),
            repetition_penalty=float(rng.choice([1.0, 1.3])),
        )
        more: dict[str, Any] = {
            "positions": np.arange(8, dtype=np.int32),
            "seed": case,
            "masks": np.packbits(is_allowed, axis=1, bitorder="little").view(np.uint32),
            "history": rng.integers(0, vocab, 900).astype(np.int32),
            "want_confidence": bool(rng.random() < 0.5),
        }
        tokens, confidence = sampling_reference.sample(logits, params, **more)
        native = sampling.sample(logits, params, **more)
        assert native.tokens.tolist() == tokens.tolist(), params
        if more["want_confidence"]:
            np.testing.assert_array_equal(native.confidence, confidence)


@pytest.mark.parametrize("vocab", [49_152, 262_144])
def test_native_equals_the_twin_on_whole_vocabularies(vocab: int) -> None:
    rng = np.random.default_rng(vocab)
    logits = (rng.normal(size=(1, vocab)) * 2).astype(np.float32)
    base = SamplingParams(temperature=1.5)
    for params in (
        base,
        replace(base, top_p=0.95),
        replace(base, top_k=1000),
        replace(base, typical_p=0.9),
        replace(base, min_p=0.01),
        replace(base, top_k=50, top_p=0.9, min_p=0.02, typical_p=0.95, repetition_penalty=1.2),
    ):
        more: dict[str, Any] = {"positions": ints(9), "seed": 3, "history": np.arange(0, 5000, 7)}
        more["history"] = more["history"].astype(np.int32)
        expected, _ = sampling_reference.sample(logits, params, **more)
        assert sampling.sample(logits, params, **more).tokens.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(60))
def test_the_best_of_long_rows_are_the_twins(seed: int) -> None:
    """Where a few of the best decide most of a row is not looked at twice: ties, rows with little that is
    possible, and best ones that may not be chosen."""
    rng = np.random.default_rng(seed)
    vocab = int(rng.integers(1000, 20_000))
    logits = (rng.normal(size=(3, vocab)) * 4).astype(np.float32)
    if seed % 3 == 0:
        logits = np.round(logits)
    if seed % 4 == 0:
        logits[rng.random(logits.shape) < 1 - 20 / vocab] = -np.inf
        logits[:, [5, 900]] = 1.0
    best = np.argsort(-logits[0], kind="stable")[:4].astype(np.int32)
    params = SamplingParams(
        temperature=float(rng.choice([0.0, 0.7, 2.0])),
        top_k=int(rng.choice([1, 3, 40, 200])),
        top_p=float(rng.choice([1.0, 0.9])),
    )
    more: dict[str, Any] = {"positions": ints(3, 4, 9), "seed": seed, "num_held": 2}
    if seed % 2:
        more |= {"forbidden": best[:1], "held": best[1:]}
    expected, _ = sampling_reference.sample(logits, params, **more)
    assert sampling.sample(logits, params, **more).tokens.tolist() == expected.tolist()
    logits[1, int(np.argmin(logits[1]))] = np.nan
    with pytest.raises(FloatingPointError, match="position 4"):
        sampling.sample(logits, params, **more)


def test_native_logprobs_equal_the_twins() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        logits, _, _ = random_case(rng)
        tokens = rng.integers(0, logits.shape[1], len(logits)).astype(np.int32)
        count = int(rng.choice([0, 1, 5, 500]))
        native = sampling.token_logprobs(logits, tokens, count)
        for ours, twin in zip(
            native, sampling_reference.token_logprobs(logits, tokens, count), strict=True
        ):
            assert (ours.rank, list(ours.top)) == (twin.rank, list(twin.top))
            assert ours.token == pytest.approx(twin.token, rel=1e-14)
            assert list(ours.top.values()) == pytest.approx(list(twin.top.values()), rel=1e-14)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(6, 300)).astype(np.float32)
    positions = np.arange(6, dtype=np.int32) + 40
    params = SamplingParams(top_p=0.9)
    together = sampling.sample(logits, params, positions=positions, seed=5, want_confidence=True)
    for i in range(6):
        alone = sampling.sample(
            logits[i : i + 1], params, positions=positions[i : i + 1], seed=5, want_confidence=True
        )
        assert alone.tokens[0] == together.tokens[i]
        assert alone.confidence[0] == together.confidence[i]


# ---- against the definitions


def test_logprobs_are_the_log_softmax() -> None:
    rng = np.random.default_rng(4)
    logits = (rng.normal(size=(8, 1000)) * 4).astype(np.float32)
    z = logits.astype(np.longdouble)
    expected = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    tokens = rng.integers(0, 1000, 8).astype(np.int32)
    for i, result in enumerate(sampling.token_logprobs(logits, tokens, 10)):
        assert result.token == pytest.approx(float(expected[i, tokens[i]]), abs=1e-12)
        assert result.rank == 1 + int((logits[i] > logits[i, tokens[i]]).sum())
        best = np.argsort(-logits[i], kind="stable")[:10]
        assert list(result.top) == best.tolist()
        assert list(result.top.values()) == pytest.approx(expected[i, best].tolist(), abs=1e-12)


def exact(logits: Floats, params: SamplingParams) -> dict[int, float]:
    """The distribution the filters leave, from their definitions, in plain Python."""
    weights = {i: math.exp(float(z) / params.temperature) for i, z in enumerate(logits[0])}
    kept = sorted(weights, key=lambda i: (-weights[i], i))
    if params.top_k > 0:
        kept = kept[: params.top_k]
    for name, share in (
        ("top_p", params.top_p),
        ("min_p", params.min_p),
        ("typical_p", params.typical_p),
    ):
        total = math.fsum(weights[i] for i in kept)
        p = {i: weights[i] / total for i in kept}
        if name == "min_p":
            kept = [i for i in kept if p[i] >= share * max(p.values())]
            continue
        entropy = -math.fsum(q * math.log(q) for q in p.values())
        order = {i: -p[i] if name == "top_p" else abs(-math.log(p[i]) - entropy) for i in kept}
        kept, mass, rest = [], 0.0, sorted(kept, key=lambda i: (order[i], i))
        while rest and mass < share:
            kept.append(rest.pop(0))
            mass += p[kept[-1]]
        if share == 1.0:
            kept += rest
    total = math.fsum(weights[i] for i in kept)
    return {i: weights[i] / total for i in kept}


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=3.0, top_k=7),
        SamplingParams(top_p=0.7),
        SamplingParams(min_p=0.15),
        SamplingParams(typical_p=0.6),
        SamplingParams(temperature=2.0, top_k=20, top_p=0.9, min_p=0.02, typical_p=0.95),
    ],
    ids=str,
)
def test_draws_follow_the_exact_distribution(params: SamplingParams) -> None:
    logits = (np.random.default_rng(5).normal(size=(1, 30)) * 2).astype(np.float32)
    expected = exact(logits, params)
    draws = 20_000
    positions = np.arange(draws, dtype=np.int32)
    tokens = sampling.sample(
        np.repeat(logits, draws, 0), params, positions=positions, seed=11
    ).tokens
    counts = Counter(tokens.tolist())
    assert set(counts) <= set(expected)
    large = {i: p for i, p in expected.items() if p * draws >= 5}
    chi_square = sum((counts[i] - p * draws) ** 2 / (p * draws) for i, p in large.items())
    freedom = max(1, len(large) - 1)
    # Wilson-Hilferty: about 4 standard deviations.
    bound = freedom * (1 - 2 / (9 * freedom) + 4 * math.sqrt(2 / (9 * freedom))) ** 3
    assert chi_square < bound


def test_confidence_is_the_probability_at_temperature_one() -> None:
    logits = row(1.0, 3.0, 2.0)
    choices = sampling.sample(
        logits,
        SamplingParams(temperature=0.1, top_k=1),
        positions=ints(0),
        seed=0,
        want_confidence=True,
    )
    assert choices.tokens.tolist() == [1]
    exact = math.exp(3) / (math.e + math.exp(3) + math.exp(2))
    assert choices.confidence[0] == pytest.approx(exact, rel=1e-6)


# ---- edges, one by one


def test_greedy_takes_the_lowest_id_of_a_tie() -> None:
    assert one(row(1.0, 5.0, 5.0, 5.0), GREEDY) == 1


def test_top_k_ties_go_to_the_lower_ids() -> None:
    params = SamplingParams(top_k=2)
    drawn = {one(row(0.0, 0.0, 0.0, 0.0), params, seed=s) for s in range(64)}
    assert drawn == {0, 1}


def test_top_k_one_and_tiny_top_p_are_greedy() -> None:
    logits = np.random.default_rng(6).normal(size=(1, 50)).astype(np.float32)
    best = int(logits.argmax())
    for params in (SamplingParams(top_k=1), SamplingParams(top_p=1e-12), SamplingParams(min_p=1.0)):
        assert {one(logits, params, seed=s) for s in range(20)} == {best}


def test_impossible_tokens_are_never_drawn() -> None:
    logits = row(-np.inf, 0.0, -np.inf, 0.0, -np.inf)
    drawn = {one(logits, SamplingParams(temperature=100.0), seed=s) for s in range(100)}
    assert drawn == {1, 3}


def test_huge_temperature_is_uniform_over_all() -> None:
    logits = row(*range(8))
    positions = np.arange(8000, dtype=np.int32)
    tokens = sampling.sample(
        np.repeat(logits, 8000, 0), SamplingParams(temperature=100.0), positions=positions, seed=1
    ).tokens
    assert np.bincount(tokens, minlength=8).min() > 800


def test_vanishing_temperature_is_greedy() -> None:
    assert one(row(1.0, 2.0, 1.9999999), SamplingParams(temperature=5e-324)) == 1


def test_penalties_are_those_of_the_documents() -> None:
    # repetition: prompt and output; presence and frequency: output only.
    history, num_prompt = ints(0, 1, 1, 2), 2
    logits = row(4.0, 4.0, -4.0, 0.0)
    score = sampling_reference.process(
        logits[0],
        SamplingParams(repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25),
        NO_INTS,
        history,
        num_prompt,
    )
    assert score.tolist() == [2.0, 2.0 - 0.25 - 0.5, -8.0 - 0.25 - 0.5, 0.0]


@pytest.mark.parametrize("bias", [1e39, 1e308, -1e308])
def test_absurd_bias_is_very_likely_or_very_unlikely(bias: float) -> None:
    params = replace(GREEDY, logit_bias={1: bias}, repetition_penalty=100.0)
    for history in (ints(), ints(1)):
        assert one(row(3.0, 2.0), params, history=history) == (1 if bias > 0 else 0)


def test_bias_and_forbidden_tokens() -> None:
    logits = row(3.0, 2.0, 1.0)
    assert one(logits, replace(GREEDY, logit_bias={2: 5.0})) == 2
    assert one(logits, replace(GREEDY, logit_bias={2: 5.0}), forbidden=ints(2)) == 0
    assert one(logits, GREEDY, held=ints(0), num_held=1) == 1
    assert one(logits, GREEDY, held=ints(0), num_held=0) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.nan])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    logits = np.zeros((2, 40), np.float32)
    logits[1, 17] = bad
    for params in (GREEDY, SamplingParams()):
        with pytest.raises(FloatingPointError, match="position 8"):
            sampling.sample(logits, params, positions=ints(3, 8), seed=0)
    with pytest.raises(FloatingPointError, match="NaN"):
        sampling.token_logprobs(logits, ints(0, 0), 3)


def test_a_row_without_a_possible_token_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="no token possible"):
        one(np.full((1, 5), -np.inf, np.float32), SamplingParams())
    with pytest.raises(FloatingPointError, match="no token possible"):
        one(row(0.0, 0.0), GREEDY, forbidden=ints(0, 1))


def test_wrong_shapes_are_refused_by_the_binding() -> None:
    with pytest.raises(ValueError, match="one position"):
        sampling.sample(np.zeros((2, 4), np.float32), GREEDY, positions=ints(0), seed=0)
    with pytest.raises(ValueError, match="vocabulary"):
        sampling.token_logprobs(np.zeros((1, 4), np.float32), ints(4), 0)
