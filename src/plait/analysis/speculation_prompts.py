"""Prompts to measure drafting on: code, text to copy, chat, a file's, and two kinds that no proposer can guess."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plait.core.errors import UserError

if TYPE_CHECKING:
    from plait.analysis.speculation import Workload

CODE = (
    'def is_prime(n):\n    """Return True if n is a prime number."""\n',
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
    'import csv\n\ndef read_rows(path):\n    """Yield the rows of a CSV file as dictionaries."""\n',
)
FACTS = (
    "The library opens at nine on weekdays and at ten on Saturdays; on Sundays it stays closed. "
    "Members may borrow up to six books for four weeks and renew each of them twice, unless "
    "somebody else has asked for it. Who brings a book back late pays twenty cents a day. "
)
COPY = tuple(
    f"{FACTS}{more}\n\nThe same text again, word for word:\n\n"
    for more in ("", FACTS[:90], "Note: ")
)
CHAT = (
    "Explain to a child why the sky is blue.\n\n",
    "Give me three reasons to learn a second language.\n\n",
    "Write a short letter to a friend about a trip to the mountains.\n\n",
)
TEXTS = {"code": CODE, "copy": COPY, "chat": CHAT}
HOPELESS = ("random", "trap")
HOPELESS_LENGTH = 64
MADE_OF = 8
"""Different tokens in text that repeats itself without ever being right."""


def chosen(only: Sequence[str] | None, extra: Mapping[str, Sequence[str]]) -> list[str]:
    """The kinds to measure; all without a choice. Raises UserError."""
    known = [*TEXTS, *extra, *HOPELESS]
    for name in only or ():
        if name not in known:
            raise UserError(f"no prompts called {name!r}", f"one of: {', '.join(known)}")
    return [name for name in known if not only or name in only]


def read(file: Path, items: int) -> dict[str, tuple[str, ...]]:
    """The name of a file -> so many prompts of it, evenly spread. Raises UserError."""
    opener = gzip.open if file.suffix == ".gz" else open
    prompts: list[str] = []
    try:
        with opener(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    prompts.append(_prompt(line, f"{file}, line {number}"))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if not prompts:
        raise UserError(f"{file} holds no prompt", 'JSON lines with a "prompt" each')
    step = max(1, len(prompts) // items)
    return {file.name.partition(".")[0].lower(): tuple(prompts[::step][:items])}


def _prompt(line: str, where: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, RecursionError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str) or not prompt:
        raise UserError(f"{where} has no prompt", 'an object with a text "prompt"')
    return prompt


def filled(prompts: Sequence[str], batch: int) -> list[str]:
    """At least a batch of prompts: where there are fewer, some again, with a number before them."""
    more = range(len(prompts), batch)
    return [*prompts, *(f"{place}\n{prompts[place % len(prompts)]}" for place in more)]


def workloads(
    encode: Callable[[str], list[int]],
    vocab_size: int,
    extra: Mapping[str, Sequence[str]],
    kinds: Sequence[str],
    batch: int,
) -> list[Workload]:
    """Of these kinds, at least a batch of prompts each. encode: text to token ids. extra: prompts of further kinds."""
    import numpy as np

    from plait.analysis.speculation import Workload

    texts = [
        Workload(
            name,
            tuple(np.array(encode(text), np.int32) for text in filled(prompts, batch)),
        )
        for name, prompts in {**TEXTS, **extra}.items()
    ]
    count = max(len(CHAT), batch)
    hopeless = [make(vocab_size, count, HOPELESS_LENGTH) for make in (random, trap)]
    return [workload for workload in (*texts, *hopeless) if workload.name in kinds]


def random(vocab_size: int, count: int, length: int) -> Workload:
    """Prompts that nothing can be learned from, and answers that are as random: sampled very hot."""
    import numpy as np

    from plait.analysis.speculation import Workload

    rng = np.random.default_rng(7)
    prompts = (rng.integers(0, vocab_size, length).astype(np.int32) for _ in range(count))
    return Workload("random", tuple(prompts), {"temperature": 2.0})


def trap(vocab_size: int, count: int, length: int) -> Workload:
    """Random text of a few tokens: what stood before is always found again and hardly ever followed by the same."""
    import numpy as np

    from plait.analysis.speculation import Workload

    rng = np.random.default_rng(8)
    few = rng.choice(vocab_size, MADE_OF, replace=False).astype(np.int32)
    bias = {int(token): 100.0 for token in few}
    prompts = (few[rng.integers(0, MADE_OF, length)] for _ in range(count))
    return Workload("trap", tuple(prompts), {"temperature": 5.0, "logit_bias": bias})
