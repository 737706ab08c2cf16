"""A conversation that goes on: which tokens a new turn adds to those that are there."""

from __future__ import annotations

from collections.abc import Sequence

from plait.core.errors import UserError
from plait.llm import LLM
from plait.text.chat import encode_chat

Message = dict[str, str]


def continued(
    llm: LLM, ids: Sequence[int], old: Sequence[Message], new: Sequence[Message]
) -> list[int]:
    """The tokens to add to `ids`, which say the messages `old`, the last of them the assistant's, as far as it is
    written; afterwards they say `new`, and the assistant's next turn has begun.

    Raises UserError for a template that does not continue what it said before.
    """
    whole = _encoded(llm, new)
    if not old:
        return whole[len(ids) :] if list(ids) == whole[: len(ids)] else whole
    before = _encoded(llm, old[:-1])
    if whole[: len(before)] == before:
        specials = llm.tokenizer.special_ids
        end = next((i for i in range(len(before), len(whole)) if whole[i] in specials), None)
        if end is not None:
            return whole[end:]
    raise UserError(
        "this model's chat template changes earlier turns, or does not end them with a control token",
        "a conversation of one turn, or plain text",
    )


def _encoded(llm: LLM, messages: Sequence[Message]) -> list[int]:
    return encode_chat(llm.tokenizer, messages, most_tokens=llm.context_length)
