"""StructuredOutputs: what an answer has to look like, with vLLM's names."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plait.core.errors import UserError

MAX_SOURCE_BYTES = 256 << 10
"""Of a schema, an expression, a grammar, or all choices together."""

ANY_OBJECT = '{"type": "object"}'
KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


@dataclass(frozen=True, slots=True)
class StructuredOutputs:
    """Exactly one of the first six is given; the text of an answer then fits it, or is the beginning of one that
    does, if the answer had to end early.

    json: a JSON schema, as text or as data. regex: an expression that the whole answer matches. choice: the answer
    is one of these. grammar: a context-free grammar in Lark's notation, or EBNF as llama.cpp has it. json_object: any JSON object.
    structural_tag: free text with parts that are not, from a trigger on (grammar/tags.py); JSON, as text or as data.
    disable_any_whitespace: JSON without the spaces and line ends that it could do without.
    open_end: where the answer may end, any other text may follow: the answer is over with the first token that does not
        go on with it, which counts as its stop token. Otherwise only the model's own end ends it there.
    complete: an answer that max_tokens would cut is led to its end before, as shortly as that goes; its reason of end is
        "length" all the same. Where nothing short enough was found it is cut. Whole canvases are always completed.
    begins_at: of an infill, the token of the prompt with which the text begins that has to fit; not given: the first that
        is filled in.
    Raises UserError for none of them, several, one of another type, or one that is too large.
    """

    json: str | Mapping[str, Any] | bool | None = None
    regex: str | None = None
    choice: Sequence[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | Mapping[str, Any] | None = None
    disable_any_whitespace: bool = False
    open_end: bool = False
    complete: bool = False
    begins_at: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in KINDS if getattr(self, name) not in (None, False)]
        if self.json is False:
            raise UserError("json: the schema `false` is fitted by nothing", "a JSON schema")
        if len(given) != 1:
            told = " and ".join(given) or "nothing"
            raise UserError(
                f"structured output: {told} given", f"exactly one of {', '.join(KINDS)}"
            )
        if self.kind in ("json", "structural_tag"):
            own = getattr(self, self.kind)
            object.__setattr__(self, self.kind, _json_text(self.kind, own))
        elif self.disable_any_whitespace and self.kind != "json_object":
            raise UserError("disable_any_whitespace has a meaning for JSON only", "leave it out")
        if type(self.complete) is not bool:
            raise UserError(f"complete={self.complete!r} is neither true nor false")
        if self.complete and self.open_end:
            raise UserError(
                "complete: where anything may follow nothing is complete", "leave it out"
            )
        if self.begins_at is not None and (type(self.begins_at) is not int or self.begins_at < 0):
            raise UserError(f"begins_at={self.begins_at!r} is out of range", "0 or more")
        self._check_texts()

    @property
    def kind(self) -> str:
        """Which of them is given."""
        return next(name for name in KINDS if getattr(self, name) not in (None, False))

    @property
    def texts(self) -> tuple[str, ...]:
        """What is given, as text: several for choices, a schema for any JSON object."""
        own = ANY_OBJECT if self.kind == "json_object" else getattr(self, self.kind)
        return (own,) if isinstance(own, str) else tuple(own)

    def _check_texts(self) -> None:
        kind, own = self.kind, getattr(self, self.kind)
        if kind == "choice":
            is_list = isinstance(own, Sequence) and not isinstance(own, str) and len(own)
            if not is_list or not all(isinstance(one, str) and one for one in own):
                raise UserError("choice is no list of texts", "at least one, none of them empty")
            object.__setattr__(self, "choice", tuple(own))
        elif not isinstance(own, bool if kind == "json_object" else str):
            raise UserError(
                f"{kind} is a {type(own).__name__}", "true" if kind == "json_object" else "text"
            )
        try:
            size = sum(len(text.encode()) for text in self.texts)
        except UnicodeEncodeError:
            raise UserError(f"{kind} holds a lone surrogate, which is no character") from None
        if size > MAX_SOURCE_BYTES:
            raise UserError(f"{kind} is {size:,} bytes long", f"at most {MAX_SOURCE_BYTES:,} bytes")


def _json_text(kind: str, given: str | Mapping[str, Any] | bool | None) -> str:
    """A schema, or tags, as JSON text. Raises UserError for what is no JSON."""
    what = "JSON schema" if kind == "json" else "JSON object"
    try:
        data = json_text.loads(given) if isinstance(given, str) else given
        text = json_text.dumps(data, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{kind} is no {what}: {str(error)[:200]}", "an object") from None
    if not isinstance(data, Mapping | bool if kind == "json" else Mapping):
        raise UserError(f"{kind} is no {what} but a {type(data).__name__}", "an object")
    return text
