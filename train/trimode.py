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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
END, MASK = "\n", "?"
ALPHABET = END + '0123456789+=rsmj{}":,' + "abcdefghiklnopqtuvwxyz" + MASK
BLOCK, HELD_OUT = 4, 16
MOST_EXTRA = 4
"""Canvas positions behind the first END that a whole canvas may have."""
NAMED = (slice(9, 13), slice(39, 43))
"""Where a record says its id, and where it says it again."""


@dataclass(frozen=True)
class Course:
    """What a run is taught. modes: shares of causal, block and whole. records: share of the steps whose batch is of
    `json`. lists: shares of the other tasks, None for equal ones. copies: how much a masked letter counts that stands
    elsewhere in what the model sees; which these are depends on the input alone, so the best answer stays the same.
    stretches: share of the canvases of which one stretch is masked, not positions here and there."""

    modes: tuple[float, ...] = (0.25, 0.35, 0.40)
    records: float = 0.3
    lists: tuple[float, ...] | None = None
    copies: float = 1.0
    stretches: float = 0.0


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


def batch(generator: np.random.Generator, size: int, course: Course) -> tuple[Ids, Ids, Ids]:
    """(tokens [n, rows], first answer position [n], position behind the first END [n]); the rest is END."""
    is_records = generator.random() < course.records
    names = ["json"] * size if is_records else generator.choice(LISTS, size, p=course.lists)
    items = [item(str(name), generator, held_out=False) for name in names]
    starts = np.array([len(prompt) for prompt, _ in items])
    ends = np.array([len(prompt) + len(answer) + 1 for prompt, answer in items])
    rows = -(-(int(ends.max()) + MOST_EXTRA) // BLOCK) * BLOCK
    tokens = np.zeros((size, rows), np.int64)
    for row, (prompt, answer) in zip(tokens, items, strict=True):
        row[: len(prompt) + len(answer)] = ids(prompt + answer)
    return tokens, starts, ends


def copies(tokens: Ids, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Letters of a record's id of which the other one of the two is seen: bool [n, rows]."""
    found = np.zeros_like(seen)
    is_record = tokens[:, :1] == ALPHABET.index("j")
    for here, there in (NAMED, NAMED[::-1]):
        if tokens.shape[1] >= max(here.stop, there.stop):
            found[:, here] = seen[:, there] & is_record
    return found
