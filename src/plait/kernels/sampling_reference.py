"""The NumPy twin of the sampling ops: same operations, same order, same bits (see csrc/ops/sample.cpp).

Sums that decide anything are `cumsum`, which adds in order, or `_mass`; `sum` would add in pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from plait.core.params import SamplingParams
from plait.core.window import NO_INTS, Floats, Ints, TokenLogprobs

Doubles = NDArray[np.float64]

_TAYLOR = [np.float32(1.0 / math.factorial(n)) for n in range(7, -1, -1)]
_LOG2_E, _ROUND = np.float32(float.fromhex("0x1.715476p0")), np.float32(float.fromhex("0x1.8p23"))
_LN2_HIGH = np.float32(float.fromhex("0x1.63p-1"))
_LN2_LOW = np.float32(float.fromhex("-0x1.bd0106p-13"))
_LOWEST = np.float32(-87.0)
_MAX = np.finfo(np.float32).max
_WORD = 0xFFFFFFFF
_BLOCK, _LANES = 256, 8


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 (Salmon et al., SC'11): four 32-bit words from four and a key of two."""
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = (
            (b >> 32) ^ counter[1] ^ key[0],
            b & _WORD,
            (a >> 32) ^ counter[3] ^ key[1],
            a & _WORD,
        )
        key = ((key[0] + 0x9E3779B9) & _WORD, (key[1] + 0xBB67AE85) & _WORD)
    return counter


def uniform(seed: int, position: int) -> float:
    """The random number of (seed, position), in [0, 1)."""
    counter = (position & _WORD, position >> 32, 0, 0)
    words = philox(counter, (seed & _WORD, seed >> 32))
    return (words[0] << 32 | words[1]) // 2**11 * 2.0**-53


def exp_nonpositive(x: Floats) -> Floats:
    """The exponential that weighs tokens, float32: x <= 0, 0 below -87."""
    bounded = np.maximum(x, _LOWEST)
    shifted = bounded * _LOG2_E + _ROUND
    k = shifted - _ROUND
    r = (bounded - k * _LN2_HIGH) - k * _LN2_LOW
    y = np.full_like(x, _TAYLOR[0])
    for coefficient in _TAYLOR[1:]:
        y = y * r + coefficient
    return np.where(x >= _LOWEST, np.ldexp(y, k.astype(np.int32)), np.float32(0.0))


def sample(
    logits: Floats,
    params: SamplingParams,
    *,
    positions: Ints,
    seed: int,
    history: Ints = NO_INTS,
    num_prompt: int = 0,
    forbidden: Ints = NO_INTS,
    held: Ints = NO_INTS,
    num_held: int = 0,
    want_confidence: bool = False,
    masks: NDArray[np.uint32] | None = None,
) -> tuple[Ints, Doubles]:
    """`sampling.sample`, row by row."""
    tokens, confidence = [], []
    for row, position in enumerate(positions.tolist()):
        out = np.concatenate([forbidden, held if row < num_held else NO_INTS])
        if masks is not None:
            allowed = np.unpackbits(masks[row].view(np.uint8), bitorder="little")
            out = np.concatenate([out, np.flatnonzero(allowed[: logits.shape[1]] == 0)])
        score = process(logits[row], params, out, history, num_prompt)
        token = choose(score, params, uniform(seed, position))
        tokens.append(token)
        if want_confidence:
            weight = exp_nonpositive(score - score.max()).astype(np.float64)
            confidence.append(weight[token] / _mass(np.arange(len(weight), dtype=np.int32), weight))
    return np.array(tokens, np.int32), np.array(confidence, np.float64)


def process(
    row: Floats, params: SamplingParams, forbidden: Ints, history: Ints, num_prompt: int
) -> Floats:
    """Scores float32 [vocab_size] after bias and penalties. Raises FloatingPointError."""
    if not np.all(row <= _MAX):
        raise FloatingPointError("NaN or +inf")
    score = row.copy()
    score[[i for i in forbidden.tolist() if 0 <= i < len(row)]] = -np.inf
    for token, bias in params.logit_bias.items():
        score[token] = _rounded(score[token : token + 1].astype(np.float64) + bias)[0]
    if params.has_penalties:
        seen = np.unique(history)
        old, r = score[seen].astype(np.float64), params.repetition_penalty
        score[seen] = _rounded(np.where(old > 0.0, old / r, old * r))
        output, counts = np.unique(history[num_prompt:], return_counts=True)
        penalised = score[output].astype(np.float64) - params.frequency_penalty * counts
        score[output] = _rounded(penalised - params.presence_penalty)
    if score.max() == -np.inf:
        raise FloatingPointError("no token is possible")
    return score


def _rounded(score: Doubles) -> Floats:
    """float64 -> float32: impossible stays impossible, the rest stays finite."""
    return np.where(score == -np.inf, -np.inf, np.clip(score, -_MAX, _MAX)).astype(np.float32)


def choose(score: Floats, params: SamplingParams, random: float) -> int:
    """The token, given scores and a random number."""
    if params.is_greedy:
        return int(np.argmax(score))
    if not (params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0 or params.typical_p < 1.0):
        return _draw_from_row(exp_nonpositive(_exponents(score, params)).astype(np.float64), random)
    ids, weight = _filtered(score, params)
    mass = np.cumsum(weight)
    index = int(np.searchsorted(mass, random * mass[-1], side="right"))
    return int(ids[min(index, len(ids) - 1)])


def token_logprobs(logits: Floats, tokens: Ints, count: int) -> list[TokenLogprobs]:
    """`sampling.token_logprobs`, row by row, with NumPy's exponential (so equal to about 1e-14)."""
    results = []
    for row, token in zip(logits, tokens.tolist(), strict=True):
        score = process(row, SamplingParams(), NO_INTS, NO_INTS, 0).astype(np.float64)
        logprob = (score - score.max()) - math.log(_total(np.exp(score - score.max())))
        top = np.argsort(-score, kind="stable")[:count].tolist()
        rank = 1 + int(np.sum(score > score[token]))
        results.append(TokenLogprobs(float(logprob[token]), rank, {i: logprob[i] for i in top}))
    return results


def _filtered(score: Floats, params: SamplingParams) -> tuple[Ints, Doubles]:
    """Surviving ids in ascending order, and their weights."""
    ids = np.arange(len(score), dtype=np.int32)
    if 0 < params.top_k < len(score):
        ids = np.sort(np.argsort(-score, kind="stable")[: params.top_k]).astype(np.int32)
    near = _exponents(score, params)[ids]
    exponent, weight = near.astype(np.float64), exp_nonpositive(near).astype(np.float64)
    keep = weight > 0.0
    ids, exponent, weight = ids[keep], exponent[keep], weight[keep]
    if params.top_p < 1.0:
        keep = _share(ids, weight, -exponent, params.top_p)
        ids, exponent, weight = ids[keep], exponent[keep], weight[keep]
    if params.min_p > 0.0:
        keep = weight >= params.min_p * weight.max()
        ids, exponent, weight = ids[keep], exponent[keep], weight[keep]
    if params.typical_p < 1.0:
        mean = _total(weight * exponent) / _total(weight)
        keep = _share(ids, weight, np.abs(mean - exponent), params.typical_p)
        ids, weight = ids[keep], weight[keep]
    return ids, weight


def _exponents(score: Floats, params: SamplingParams) -> Floats:
    divisor = max(np.float32(params.temperature), np.finfo(np.float32).tiny)
    with np.errstate(over="ignore"):
        exponents: Floats = (score - score.max()) / divisor
    return exponents


def _draw_from_row(weight: Doubles, random: float) -> int:
    """One of all ids: the block in which the mass passes random * total, then the id in it."""
    blocks = _block_masses(np.arange(len(weight), dtype=np.int32), weight)
    mass = np.cumsum(blocks)
    wanted = random * mass[-1]
    last = int(np.flatnonzero(blocks)[-1])
    found = min(int(np.searchsorted(mass, wanted, side="right")), last)
    inside = weight[found * _BLOCK : (found + 1) * _BLOCK]
    reached = np.cumsum([mass[found - 1] if found else 0.0, *inside])[1:]
    place = int(np.searchsorted(reached, wanted, side="right"))
    return found * _BLOCK + min(place, int(np.flatnonzero(inside)[-1]))


def _block_masses(ids: Ints, weight: Doubles) -> Doubles:
    """Of the blocks of ids: in each, lanes of every eighth id, added up in pairs."""
    row = np.zeros(-(-(int(ids[-1]) + 1) // _BLOCK) * _BLOCK)
    row[ids] = weight
    lanes = np.cumsum(row.reshape(-1, _BLOCK // _LANES, _LANES), axis=1)[:, -1]
    while lanes.shape[1] > 1:
        lanes = lanes[:, 0::2] + lanes[:, 1::2]
    masses: Doubles = lanes[:, 0]
    return masses


def _mass(ids: Ints, weight: Doubles) -> float:
    """Of some ids, ascending."""
    return _total(_block_masses(ids, weight))


def _share(ids: Ints, weight: Doubles, key: Doubles, share: float) -> NDArray[np.bool_]:
    """The shortest prefix in ascending key (ties: lower id) whose weights reach the share.

    Added up bucket by bucket (a quarter of a nat each), and token by token in the last one only.
    """
    bucket = np.minimum(4.0 * key, 255.0).astype(np.int64)
    mass = np.cumsum(np.bincount(bucket, weight, minlength=256))
    wanted = share * _mass(ids, weight)
    last = min(int(np.searchsorted(mass, wanted, side="left")), 255)
    edge = np.flatnonzero(bucket == last)
    edge = edge[np.argsort(key[edge], kind="stable")]
    before = mass[last - 1] if last else 0.0
    reached = np.cumsum(np.concatenate([[before], weight[edge]]))[1:]
    keep = bucket < last
    keep[edge[: int(np.searchsorted(reached, wanted, side="left")) + 1]] = True
    return keep


def _total(values: Doubles) -> float:
    return float(np.cumsum(values)[-1])
