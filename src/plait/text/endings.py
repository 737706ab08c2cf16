"""Which tokens end an answer. Files often name only one of them, so the usual names count as well."""

from __future__ import annotations

from collections.abc import Iterable

from plait.text.vocabulary import Kind, Vocabulary

_NAMES = frozenset(
    {
        *("<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>"),
        *("<|return|>", "<|call|>", "<|end_of_turn|>", "<end_of_turn>", "<end_of_utterance>"),
        *("<turn|>", "<eos>", "</s>", "<EOT>", "[EOT]", "[EOS]", "<｜end▁of▁sentence｜>"),
    }
)
_HARMONY = frozenset({"<|return|>", "<|call|>", "<|end|>"})
"""Where all three exist, <|end|> ends one message of several within an answer."""


def ending_ids(vocabulary: Vocabulary, declared: Iterable[int | None]) -> frozenset[int]:
    """Ids that end an answer: those the file declares, and control tokens with a usual name."""
    named = vocabulary.literal_ids(Kind.CONTROL)
    names = _NAMES & named.keys()
    if names >= _HARMONY:
        names -= {"<|end|>"}
    return frozenset(token_id for token_id in declared if token_id is not None) | {
        named[name] for name in names
    }
