"""From what a request holds to token ids, off the event loop: a long text takes its time."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from plait.core.errors import UserError
from plait.server.errors import RefusedError
from plait.server.generation import Prompt
from plait.server.state import Served
from plait.text.chat import encode_chat

Given = str | list[int] | list[str] | list[list[int]]
"""A text, its token ids, or several of either."""


def check_model(served: Served, name: str | None) -> None:
    """Raise RefusedError (404) for a model that is not served here; None is the one that is."""
    if name is None or name in served.names:
        return
    near = difflib.get_close_matches(name, served.names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"served here: {', '.join(served.names)}"
    raise RefusedError(
        404, f"no model called {name[:200]!r}", hint, code="model_not_found", param="model"
    )


async def encoded(served: Served, given: Given, most: int) -> list[Prompt]:
    """The prompts of a request. Raises UserError for none, for more than `most`, or too long ones."""
    each = split(given)
    if not each:
        raise RefusedError(400, "there is no prompt", "give at least one", param="prompt")
    if len(each) > most:
        raise RefusedError(400, f"{len(each)} prompts are too many", f"at most {most}")
    return await asyncio.to_thread(lambda: [_encoded(served, one) for one in each])


async def encoded_chat(
    served: Served,
    messages: Sequence[Mapping[str, Any]],
    extra: Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Prompt:
    """The prompt for a conversation; tools: as its template takes them. Raises UserError."""
    ids = await asyncio.to_thread(
        encode_chat,
        served.tokenizer,
        messages,
        template=served.template,
        extra=extra,
        tools=tools,
        most_tokens=served.traits.context_length,
    )
    return Prompt(None, ids)


def split(given: Given) -> list[str | list[int]]:
    """One entry per prompt; a flat list of numbers is one."""
    if isinstance(given, str):
        return [given]
    flat = [one for one in given if isinstance(one, int)]
    return [flat] if flat else [one for one in given if not isinstance(one, int)]


def refuse_many(num_prompts: int, n: int, most: int) -> None:
    """Raise UserError for more choices in all than the server gives one request."""
    if num_prompts * n > most:
        raise UserError(
            f"{num_prompts * n} answers are too many for one request", f"at most {most}"
        )


def _encoded(served: Served, given: str | list[int]) -> Prompt:
    if isinstance(given, str):
        served.tokenizer.refuse_longer(given, served.traits.context_length)
        return Prompt(given, served.tokenizer.encode(given, parse_special=True))
    if any(not 0 <= token < served.traits.vocab_size for token in given):
        raise UserError(
            "the prompt holds a token id that the model does not have",
            f"ids must lie in [0, {served.traits.vocab_size})",
        )
    return Prompt(None, given)
