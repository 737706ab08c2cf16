"""/v1/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.server.schema.common import (
    Answer,
    Canvas,
    FinishReason,
    Timings,
    Unsupported,
    Usage,
)
from plait.server.schema.structured import Constrained

DEFAULT_MAX_TOKENS = 16
MAX_LOGPROBS = 20
MAX_INFILL = 4096


class CompletionRequest(Constrained):
    """A text to go on from, or several; as text, or as token ids."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = None
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    infill: Annotated[list[list[int]], Field(max_length=MAX_INFILL)] | None = Field(
        None,
        description="Stretches [start, end) of the prompt, in tokens, to be filled in by a diffusion model: the "
        "answer is the text from the first of them on.",
    )
    suffix: Annotated[Any, Unsupported("the model only continues a text", ("",))] = None
    best_of: Annotated[Any, Unsupported("ask for n answers and choose", (1,))] = None

    def params(self, most: int = 0) -> SamplingParams:
        """most: tokens that a request may generate, 0 for any. Raises UserError for values out of range, or that
        contradict each other."""
        for name in ("echo", "max_tokens") if self.infill else ():
            if getattr(self, name):
                hint = "leave it out: the answer goes to the end of the prompt"
                raise UserError(f"{name} has no meaning with infill", hint)
        scores = self.echo and (self.logprobs is not None or self.max_tokens == 0)
        return self.sampling(
            max_tokens=self._default(most) if self.max_tokens is None else self.max_tokens,
            logprobs=self.logprobs,
            prompt_logprobs=(self.logprobs or 0) if scores else None,
            logit_bias=self.biases,
            structured_outputs=self.structured(),
            infill=None if self.infill is None else tuple(tuple(span) for span in self.infill),
        )

    def _default(self, most: int) -> int | None:
        """None, which is as many as may be, when there are more choices than tokens: the engine refuses that."""
        return (
            min(DEFAULT_MAX_TOKENS, most // max(1, self.n or 1)) or None
            if most
            else DEFAULT_MAX_TOKENS
        )


class CompletionLogprobs(Answer):
    """One entry per token in each list. text_offset: letters before the token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Answer):
    """One answer to one prompt; index is (prompt * n + choice)."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class WatchedChoice(CompletionChoice):
    """A piece of a stream that is watched."""

    canvas: Canvas


class Completion(Answer):
    """The answer, and each chunk of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[SerializeAsAny[CompletionChoice]]
    usage: Usage | None = None
    timings: Timings | None = None
