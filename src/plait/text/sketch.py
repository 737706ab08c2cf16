"""What of an answer may still change, as text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from plait.text.tokenizer import Tokenizer


def sketched(tokenizer: Tokenizer, canvas: Sequence[int | None]) -> list[str | None]:
    """Pieces of a canvas (token ids, None where a position is open): None for each open position, the text of
    each stretch of tokens between them. Special tokens are left out."""
    pieces: list[str | None] = []
    for is_open, stretch in groupby(canvas, key=lambda token: token is None):
        tokens = list(stretch)
        if is_open:
            pieces += [None] * len(tokens)
        elif text := tokenizer.decode([token for token in tokens if token is not None]):
            pieces.append(text)
    return pieces
