"""A conversation as token ids, in which nothing that anybody wrote turns into a control token.

The template writes control tokens such as <|im_end|> as text, and so might a user. To tell them apart
the texts of the conversation get marks, a letter that occurs nowhere else, put in where they might be
read as a control token: inside every look-alike, and before or after text that could be completed to one
by what the template puts next to it (content that ends in "<"). After rendering, control tokens are read
from the marked text, and only then are the marks taken out. Text that looks like no control token gets
no mark, so templates see it as it is and the result is the plain encoding of the rendering.

Roles, and other plain words outside the content, get no mark: templates compare them and build tokens of
them (<|user|>). A template that cuts texts apart and joins them anew could still build a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

from plait.core.errors import UserError
from plait.text.literals import Literals
from plait.text.messages import Message, checked, plain, with_texts
from plait.text.template import render_plain
from plait.text.tokenizer import Tokenizer

_MARKS = (*range(0xFDD0, 0xFDF0), *range(0xF0000, 0xFFFFE))
"""Letters that nothing means anything by: noncharacters, then a private plane."""

_CONTENT = frozenset({"content", "reasoning_content"})
_WORD = re.compile(r"[A-Za-z0-9_-]{0,64}")


def encode_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    *,
    template: str | None = None,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
    most_tokens: int | None = None,
) -> list[int]:
    """Token ids of a conversation, `bos_id` included where the model expects it.

    most_tokens: refuse at once what surely needs more. template: used instead of the model's own. The rest is as in `template.render_chat`.
    Raises UserError if there is no template, and for everything that `render_chat` refuses.
    """
    source = template or tokenizer.chat_template
    if source is None:
        raise UserError(
            "this model has no chat template, so it does not know what a conversation looks like",
            "prompt it with plain text (plait run), or give a template with --chat-template FILE",
        )
    spoken = checked(messages)
    offered = None if tools is None else plain(list(tools), "tools")
    names = {
        **plain(dict(extra or {}), "extra"),
        "add_generation_prompt": add_generation_prompt,
        "bos_token": _name(tokenizer, tokenizer.bos_id),
        "eos_token": _name(tokenizer, tokenizer.eos_id),
    }
    marker = _Marker(tokenizer, [source, spoken, offered, names])
    text = render_plain(
        source,
        [marker.marked(message) for message in spoken],
        names | {"tools": None if offered is None else [marker.marked(tool) for tool in offered]},
    )
    if most_tokens is not None:
        tokenizer.refuse_longer(text.replace(marker.mark, ""), most_tokens)
    ids = tokenizer.encode_marked(text, marker.mark)
    if tokenizer.add_bos and tokenizer.bos_id is not None and ids[:1] != [tokenizer.bos_id]:
        return [tokenizer.bos_id, *ids]
    return ids


class _Marker:
    """Puts marks into text. used: everything the mark must not occur in."""

    def __init__(self, tokenizer: Tokenizer, used: Any) -> None:
        self.mark = _unused_letter(used)
        self._lookalikes = _lookalikes(tuple(tokenizer.control_names()))

    def marked(self, message: Message) -> Message:
        """A message, or a tool, with marks in all its text."""
        return {
            self._inside(key): with_texts(
                value, self._content if key in _CONTENT else self._field, self._inside
            )
            for key, value in message.items()
        }

    def _field(self, text: str) -> str:
        return text if _WORD.fullmatch(text) else self._content(text)

    def _content(self, text: str) -> str:
        """Marks inside, and at the ends of what is left when a template trims the text."""
        bare = text.strip()
        if not bare:
            return text
        before, _, after = text.partition(bare)
        start = self.mark if self._lookalikes.may_end_with(bare) else ""
        end = self.mark if self._lookalikes.may_start_with(bare) else ""
        return before + start + self._inside(bare) + end + after

    def _inside(self, text: str) -> str:
        """A mark after the first letter of every look-alike."""
        done, parts = 0, []
        for place in self._lookalikes.places(text):
            parts.append(text[done : place + 1])
            done = place + 1
        return self.mark.join([*parts, text[done:]])


class _Lookalikes:
    """Where text could be (part of) a control token, whatever the case of its letters."""

    def __init__(self, names: Sequence[str]) -> None:
        folded = {_fold(name) for name in names}
        self._whole = Literals(dict.fromkeys(folded, 0))
        self._heads = {name[:size] for name in folded for size in range(1, len(name))}
        self._tails = {name[size:] for name in folded for size in range(1, len(name))}
        self._names = "\n".join(folded)
        self._longest = max(map(len, folded), default=0)

    def places(self, text: str) -> Iterator[int]:
        """Where control tokens start."""
        return self._whole.starts(_fold(text))

    def may_start_with(self, text: str) -> bool:
        """Whether a token could begin at the end of this text, or contain all of it."""
        end = _fold(text[-self._longest :])
        inside = len(text) < self._longest and end in self._names
        return inside or any(end[at:] in self._heads for at in range(len(end)))

    def may_end_with(self, text: str) -> bool:
        """Whether a token could end at the start of this text."""
        start = _fold(text[: self._longest])
        return any(start[: at + 1] in self._tails for at in range(len(start)))


_ASCII_LOWER = {ord(letter): letter.lower() for letter in ascii_uppercase}


def _fold(text: str) -> str:
    """Lower case for ASCII; every letter stays where it is."""
    return text.translate(_ASCII_LOWER)


@lru_cache(maxsize=8)
def _lookalikes(names: tuple[str, ...]) -> _Lookalikes:
    return _Lookalikes(names)


def _unused_letter(used: Any) -> str:
    present: set[str] = set()

    def note(text: str) -> str:
        present.update(text)
        return text

    with_texts(used, note, note)
    return next(letter for letter in map(chr, _MARKS) if letter not in present)


def _name(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.token_name(token_id)
