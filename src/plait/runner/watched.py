"""A runner that remembers, for proposers, what the head was given for the rows of each request's last forward."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Listing
from typing import NamedTuple

import numpy as np

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import Floats, Window
from plait.runner.native import NativeRunner
from plait.runner.soften import as_window

MOST = 256
"""Requests that are remembered; the one that was computed longest ago is forgotten for a new one."""


class _Seen(NamedTuple):
    """hidden: of the wanted rows, float32 [rows, width]."""

    window: Window
    hidden: Floats


class Watched:
    """Implements core.step.Runner: the layers, then the head from what they gave, in two calls with the same bits."""

    def __init__(self, inner: NativeRunner) -> None:
        """Raises UserError for a model whose head has no norm before it that could be done here."""
        norm = inner.last.prologue
        if norm is None or norm.kind != "rmsnorm" or norm.vectors[0] is None:
            raise UserError(
                "this model's last hidden state is of a kind that heads cannot read", ""
            )
        self._inner = inner
        self._scale = inner.weights.vector(norm.vectors[0]) + np.float32(norm.attrs["offset"])
        self._eps = float(norm.attrs["eps"])
        self._seen: dict[int, _Seen] = {}

    @property
    def width(self) -> int:
        """Of a hidden state."""
        return len(self._scale)

    def forward(self, inputs: Listing[StepInput]) -> list[Floats]:
        hidden = self._inner.hidden(inputs, until="hidden")
        logits = self._inner.resume(inputs, since="hidden", hidden=hidden)
        found: list[Floats] = []
        first = row = 0
        for item in inputs:
            count = len(item.window.rows)
            found.append(logits[row : row + count])
            if count:
                self._remember(item, hidden[first + item.window.rows])
            first, row = first + item.window.length, row + count
        return found

    def hidden(self, inputs: Listing[StepInput], *, until: str) -> Floats:
        return self._inner.hidden(inputs, until=until)

    def counters(self) -> Mapping[str, int]:
        return self._inner.counters()

    def head(self, hidden: Floats) -> Floats:
        """Logits float32 [n, vocabulary] of normed rows, float32 [n, width]. The model's head has its norm before it,
        so it is given what that makes the rows, but for their sizes."""
        count = len(hidden)
        unscaled = np.divide(hidden, self._scale, out=np.zeros_like(hidden), where=self._scale != 0)
        sizes = np.sqrt(np.mean(np.square(unscaled), axis=1, keepdims=True) + self._eps)
        rows = np.arange(count, dtype=np.int32)
        ids = np.zeros(count, np.int32)
        window = Window(0, count, rows, rows, tokens=ids)
        item = as_window(ids)._replace(window=window)
        logits: Floats = self._inner.resume([item], since="hidden", hidden=unscaled) * sizes
        return logits

    def state(self, seq: Sequence) -> Floats | None:
        """The last hidden state, normed, of the row that chose the last token of a canvas, float32 [width]; None for a
        row that was not computed in the request's last forward."""
        seen = self._seen.get(seq.request_id)
        if seen is None:
            return None
        row = _last_row(seen.window, seq)
        if row is None:
            return None
        state = seen.hidden[row]
        normed: Floats = state / np.sqrt(np.mean(np.square(state)) + self._eps) * self._scale
        return normed

    def _remember(self, item: StepInput, hidden: Floats) -> None:
        key = item.sequence.request_id
        if self._seen.pop(key, None) is None and len(self._seen) >= MOST:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = _Seen(item.window, hidden)


def _last_row(window: Window, seq: Sequence) -> int | None:
    """Which wanted row of its last window chose the last token: the one behind those drafted tokens that were right."""
    drafted = len(window.parents)
    first = len(window.rows) - drafted - 1  # the last row of the canvas
    steps = seq.length - 1 - int(window.targets[first])
    if steps < 0:
        return None
    tokens = [] if window.tokens is None else window.tokens[window.length - drafted :].tolist()
    children = {
        key: place
        for place, key in enumerate(zip(window.parents.tolist(), tokens, strict=False), 1)
    }
    place = 0
    for token in seq.tokens[seq.length - 1 - steps : seq.length - 1].tolist():
        found = children.get((place, token))
        if found is None:
            return None
        place = found
    return first + place
