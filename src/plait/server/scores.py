"""Log-probabilities in the shapes of the endpoints that have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from plait.server.schema.common import TokenLogprob, TopLogprob
from plait.server.schema.completions import CompletionLogprobs
from plait.text.answer import Logprobs
from plait.text.tokenizer import Tokenizer

LEAST = -9999.0
"""Stands for minus infinity, which JSON does not know."""

Scored = tuple[int, Logprobs | None]


def token_logprobs(
    tokenizer: Tokenizer, tokens: Iterable[tuple[int, Logprobs]], num_top: int
) -> list[TokenLogprob]:
    """As chats and responses have them, one per token. num_top: alternatives to each."""
    return [_token(tokenizer, *one, num_top) for one in tokens]


def completion_logprobs(
    tokenizer: Tokenizer, tokens: Sequence[Scored], num_top: int, offset: int
) -> CompletionLogprobs:
    """offset: letters before the first of the tokens. The first token of a prompt has no entry."""
    texts = [tokenizer.decode([token], skip_special=False) for token, _ in tokens]
    offsets, length = [], offset
    for text in texts:
        offsets.append(length)
        length += len(text)
    return CompletionLogprobs(
        tokens=texts,
        token_logprobs=[None if entry is None else _value(entry, token) for token, entry in tokens],
        top_logprobs=[None if entry is None else _best(entry, num_top) for _, entry in tokens],
        text_offset=offsets,
    )


def _best(entry: Logprobs, num_top: int) -> dict[str, float]:
    """By text, best first. Of tokens with the same text the likelier one counts."""
    best: dict[str, float] = {}
    for token in _ranked(entry, num_top):
        best.setdefault(entry[token].decoded_token, _value(entry, token))
    return best


def _token(tokenizer: Tokenizer, token: int, entry: Logprobs, num_top: int) -> TokenLogprob:
    own = _top(tokenizer, token, entry)
    others = [_top(tokenizer, other, entry) for other in _ranked(entry, num_top)]
    return TokenLogprob(token=own.token, logprob=own.logprob, bytes=own.bytes, top_logprobs=others)


def _top(tokenizer: Tokenizer, token: int, entry: Logprobs) -> TopLogprob:
    return TopLogprob(
        token=entry[token].decoded_token,
        logprob=_value(entry, token),
        bytes=list(tokenizer.token_bytes(token)),
    )


def _ranked(entry: Logprobs, num_top: int) -> list[int]:
    return sorted(entry, key=lambda token: entry[token].rank)[:num_top]


def _value(entry: Logprobs, token: int) -> float:
    return max(entry[token].logprob, LEAST)
