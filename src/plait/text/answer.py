"""From a request's events to what a person or a client gets: text, token ids, reasons, log-probabilities.

The names are vLLM's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from plait.core.params import SamplingParams
from plait.core.sequence import Event, Metrics
from plait.core.window import FinishReason, TokenLogprobs
from plait.text.detokenize import Detokenizer
from plait.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Logprob:
    """Log-probability of a token at one position; rank 1 is the most probable."""

    logprob: float
    rank: int
    decoded_token: str


Logprobs = dict[int, Logprob]


@dataclass(slots=True)
class CompletionOutput:
    """One choice.

    token_ids ends with the stop token, if there was one; a stop string takes the tokens that hold nothing
    but it away. finish_reason: None while it runs, then stop, length, cancelled, deadline or error (see `error`).
    stop_reason: the stop string or the stop token id that ended it; None for the model's own end.
    canvas: of a request that is watched and runs, the tokens behind those of `token_ids` that may still
        change, None where a position is open.
    """

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[Logprobs] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    error: str | None = None
    canvas: list[int | None] | None = None


@dataclass(slots=True)
class RequestOutput:
    """What a prompt has led to so far. metrics: of the first choice; complete when it has ended."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    prompt_logprobs: list[Logprobs | None] | None = None
    finished: bool = False
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens that did not have to be computed."""
        return self.metrics.num_cached_tokens

    def record(self) -> dict[str, Any]:
        """Everything as plain data, ready for JSON."""
        found = asdict(self) | {"num_cached_tokens": self.num_cached_tokens}
        # `asdict` counts the pairs of a Counter anew.
        found["metrics"] |= {
            "drafts": dict(self.metrics.drafts),
            "accepted": dict(self.metrics.accepted),
        }
        return found


class Answer:
    """Collects the events of one request in `output`. ids[i]: the request id of choice i."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: str | None,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        ids: Sequence[int],
    ) -> None:
        self._tokenizer = tokenizer
        self._choices = {
            request_id: _Choice(tokenizer, index, params) for index, request_id in enumerate(ids)
        }
        self._open = set(ids)
        self.output = RequestOutput(
            str(ids[0]),
            prompt,
            list(prompt_ids),
            [choice.output for choice in self._choices.values()],
        )

    def take(self, event: Event) -> bool:
        """Add an event. True when its choice has just come to a stop string: end that request."""
        choice = self._choices[event.request_id]
        has_stopped = choice.take(event)
        if event.metrics is not None and choice.output.index == 0:
            self.output.metrics = event.metrics
        if event.prompt_logprobs is not None and self.output.prompt_logprobs is None:
            self.output.prompt_logprobs = [
                None if entry is None else _logprobs(self._tokenizer, token, entry)
                for token, entry in zip(
                    self.output.prompt_token_ids, event.prompt_logprobs, strict=True
                )
            ]
        if event.finish_reason:
            self._open.discard(event.request_id)
        self.output.finished = not self._open
        return has_stopped

    def snapshot(self) -> RequestOutput:
        """The output as it stands; later events do not change it."""
        outputs = [
            replace(
                one,
                token_ids=list(one.token_ids),
                logprobs=None if one.logprobs is None else list(one.logprobs),
            )
            for one in self.output.outputs
        ]
        return replace(self.output, outputs=outputs)


class _Choice:
    """One choice of an answer."""

    def __init__(self, tokenizer: Tokenizer, index: int, params: SamplingParams) -> None:
        self._tokenizer = tokenizer
        self._params = params
        self._text = Detokenizer(
            tokenizer,
            params.stop,
            include_stop=params.include_stop_str_in_output,
            skip_special=params.skip_special_tokens,
        )
        self.output = CompletionOutput(index)
        if params.logprobs is not None:
            self.output.logprobs, self.output.cumulative_logprob = [], 0.0

    def take(self, event: Event) -> bool:
        """Add an event. True when it has brought a stop string."""
        out = self.output
        out.canvas = None if event.canvas is None else list(event.canvas)
        if self._text.stopped is None:
            self._add(event)
            if event.finish_reason:
                out.text += self._text.finish()
            if self._text.stopped is not None:
                self._cut(self._text.stopped)
                return event.finish_reason is None
        if event.finish_reason and out.finish_reason is None:
            self._end(event)
        return False

    def _add(self, event: Event) -> None:
        hides_stop = event.stop_token is not None and not self._params.include_stop_str_in_output
        shown = event.token_ids[:-1] if hides_stop else event.token_ids
        self.output.text += self._text.push(shown)
        self.output.token_ids += event.token_ids
        if self.output.logprobs is not None:
            for token, entry in zip(event.token_ids, event.logprobs, strict=True):
                self.output.logprobs.append(_logprobs(self._tokenizer, token, entry))

    def _cut(self, stop: str) -> None:
        """A stop string was completed: what it takes away is the same however the events were divided."""
        out, kept = self.output, self._text.num_tokens_kept
        del out.token_ids[kept:]
        if out.logprobs is not None:
            del out.logprobs[kept:]
        self._sum_up()
        out.finish_reason, out.stop_reason = str(FinishReason.STOP), stop

    def _end(self, event: Event) -> None:
        self._sum_up()
        self.output.finish_reason, self.output.error = str(event.finish_reason), event.error
        if event.stop_token in self._params.stop_token_ids:
            self.output.stop_reason = event.stop_token

    def _sum_up(self) -> None:
        out = self.output
        if out.logprobs is not None:
            pairs = zip(out.token_ids, out.logprobs, strict=True)
            out.cumulative_logprob = sum(entry[token].logprob for token, entry in pairs)


def _logprobs(tokenizer: Tokenizer, token: int, entry: TokenLogprobs) -> Logprobs:
    """The token itself first, then the alternatives, best first."""
    ranked = {token: (entry.token, entry.rank)}
    for rank, (other, value) in enumerate(entry.top.items(), 1):
        ranked.setdefault(other, (value, rank))
    return {
        i: Logprob(value, rank, tokenizer.decode([i], skip_special=False))
        for i, (value, rank) in ranked.items()
    }
