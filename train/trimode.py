"""Tasks for one set of weights in three modes: next token (causal), blocks of BLOCK (causal across, bidirectional
inside) and whole canvases.

A task is a prompt and an answer of known length, one token per character; what is behind the answer is END, to the end
of the canvas. Batches of one step share mode and length.

    add       123+456=          0579        (pairs whose hash is divisible by HELD_OUT are never trained)
    reverse   r40718352=        25381704
    sort      s40718352=        01234578
    shuffle   m40718352=        any order of these digits
    json      j=                {"id":"kqzv","n":31,"ok":true,"ref":"kqzv"}   (the id is free, and said twice)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from train.body import Body

Ids = NDArray[np.int64]
END, MASK = "\n", "?"
ALPHABET = END + '0123456789+=rsmj{}":,' + "abcdefghiklnopqtuvwxyz" + MASK
BLOCK, HELD_OUT = 4, 16
MOST_EXTRA = 4
"""Canvas positions behind the first END that a whole canvas may have."""
MODES = ("causal", "block", "full")
SHARES = (0.25, 0.35, 0.40)


def is_held_out(task: str, prompt: str) -> bool:
    return zlib.crc32(f"{task} {prompt}".encode()) % HELD_OUT == 0


def add(generator: np.random.Generator) -> tuple[str, str]:
    a, b = (int(x) for x in generator.integers(0, 1000, 2))
    return f"{a:03}+{b:03}=", f"{a + b:04}"


def _digits(generator: np.random.Generator, *, distinct: bool) -> list[str]:
    return [str(x) for x in generator.choice(10, 8, replace=not distinct)]


def reverse(generator: np.random.Generator) -> tuple[str, str]:
    digits = _digits(generator, distinct=False)
    return f"r{''.join(digits)}=", "".join(reversed(digits))


def sort(generator: np.random.Generator) -> tuple[str, str]:
    digits = _digits(generator, distinct=False)
    return f"s{''.join(digits)}=", "".join(sorted(digits))


def shuffle(generator: np.random.Generator) -> tuple[str, str]:
    digits = _digits(generator, distinct=True)
    return f"m{''.join(digits)}=", "".join(generator.permutation(digits))


def record(generator: np.random.Generator) -> tuple[str, str]:
    name = "".join(generator.choice(list("abcdefghiklnopqtuvwxyz"), 4))
    number = int(generator.integers(10, 100))
    state = ("true", "null")[int(generator.integers(2))]
    return "j=", f'{{"id":"{name}","n":{number},"ok":{state},"ref":"{name}"}}'


TASKS: dict[str, Callable[[np.random.Generator], tuple[str, str]]] = {
    "add": add,
    "reverse": reverse,
    "sort": sort,
    "shuffle": shuffle,
    "json": record,
}
LISTS = ("add", "reverse", "sort", "shuffle")


def item(task: str, generator: np.random.Generator, *, held_out: bool) -> tuple[str, str]:
    """(prompt, answer) of one side of the division by hash; json has one prompt only, and no sides."""
    while True:
        prompt, answer = TASKS[task](generator)
        if task == "json" or is_held_out(task, prompt) == held_out:
            return prompt, answer


def ids(text: str) -> list[int]:
    return [ALPHABET.index(letter) for letter in text]


def batch(generator: np.random.Generator, size: int) -> tuple[Ids, Ids, Ids]:
    """(tokens [n, rows], first answer position [n], position behind the first END [n]); the rest is END."""
    names = ["json"] * size if generator.random() < 0.3 else generator.choice(LISTS, size)
    items = [item(str(name), generator, held_out=False) for name in names]
    starts = np.array([len(prompt) for prompt, _ in items])
    ends = np.array([len(prompt) + len(answer) + 1 for prompt, answer in items])
    rows = -(-(int(ends.max()) + MOST_EXTRA) // BLOCK) * BLOCK
    tokens = np.zeros((size, rows), np.int64)
    for row, (prompt, answer) in zip(tokens, items, strict=True):
        row[: len(prompt) + len(answer)] = ids(prompt + answer)
    return tokens, starts, ends


def loss(model: Body, generator: np.random.Generator, *, size: int) -> tuple[Tensor, str]:
    mode = str(generator.choice(MODES, p=SHARES))
    tokens, starts, ends = batch(generator, size)
    where = np.arange(tokens.shape[1])
    is_answer = (where >= starts[:, None]) & (where < ends[:, None])
    if mode == "causal":
        return _causal(model, tokens, is_answer), mode
    if mode == "block":
        return _blocks(model, generator, tokens, starts, ends), mode
    return _canvas(model, generator, tokens, starts, ends), mode


def _causal(model: Body, tokens: Ids, is_answer: NDArray[np.bool_]) -> Tensor:
    rows = tokens.shape[1]
    mask = torch.ones(rows, rows).tril().bool()[None, None]
    logits = model(torch.from_numpy(tokens), torch.arange(rows), mask)
    return _mean(logits[:, :-1], tokens[:, 1:], is_answer[:, 1:])


def _canvas(
    model: Body, generator: np.random.Generator, tokens: Ids, starts: Ids, ends: Ids
) -> Tensor:
    """The answer and up to MOST_EXTRA positions behind it, or all but its END."""
    where = np.arange(tokens.shape[1])
    last = ends + generator.integers(-1, MOST_EXTRA + 1, len(ends))
    is_open = (where >= starts[:, None]) & (where < last[:, None])
    hidden = _hidden(generator, is_open)
    sees = torch.from_numpy(where < last[:, None])[:, None, None, :]
    fed = torch.from_numpy(np.where(hidden, ALPHABET.index(MASK), tokens))
    logits = model(fed, torch.arange(tokens.shape[1]), sees)
    return _mean(logits, tokens, hidden)


def _blocks(
    model: Body, generator: np.random.Generator, tokens: Ids, starts: Ids, ends: Ids
) -> Tensor:
    """Noisy blocks before which the clean ones stand: [noisy | clean] in one forward (arXiv:2503.09573)."""
    size, rows = tokens.shape
    where = np.arange(rows)
    closed = -(-ends // BLOCK) * BLOCK
    is_open = (where >= starts[:, None]) & (where < closed[:, None])
    # Every block has a share of its own, as it has when it is decoded.
    by_block = is_open.reshape(size * rows // BLOCK, BLOCK)
    hidden = _hidden(generator, by_block).reshape(size, rows)
    noisy = np.where(hidden, ALPHABET.index(MASK), tokens)
    block = where // BLOCK
    before, same = block[:, None] > block[None, :], block[:, None] == block[None, :]
    mask = np.block([[same, before], [np.zeros_like(same), before | same]])
    fed = torch.from_numpy(np.concatenate([noisy, tokens], 1))
    logits = model(fed, torch.arange(rows).repeat(2), torch.from_numpy(mask)[None, None])
    return _mean(logits[:, :rows], tokens, hidden)


def _hidden(generator: np.random.Generator, is_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """k of the open positions of each row, k uniform from 1 to all of them."""
    counts = np.ceil(generator.random(len(is_open)) * is_open.sum(1))
    order = np.where(is_open, generator.random(is_open.shape), 2.0).argsort(1).argsort(1)
    return (order < counts[:, None]) & is_open


def _mean(logits: Tensor, wanted: Ids, counted: NDArray[np.bool_]) -> Tensor:
    """Cross entropy: the mean over the counted positions of a sequence, then over the sequences."""
    losses = functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(wanted).flatten(), reduction="none"
    )
    weights = torch.from_numpy(counted).float()
    each = (losses.view_as(weights) * weights).sum(1) / weights.sum(1).clamp(min=1)
    return each.mean()
