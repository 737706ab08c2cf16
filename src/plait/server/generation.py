"""One request of the API as the engine sees it: one or several prompts, each with n choices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from plait.core.errors import ContextLengthError
from plait.core.params import SamplingParams
from plait.core.sequence import Event
from plait.core.window import FinishReason
from plait.engine.worker import AsyncStream
from plait.server.errors import RefusedError
from plait.server.state import Served
from plait.text.answer import Answer, CompletionOutput, Logprobs
from plait.text.sketch import sketched

MOST_SKETCHES = 16
"""Views of canvases, with nothing final in them, that may wait for a client."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """text: None for what was given as token ids, or as a conversation."""

    text: str | None
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new of one choice. index: prompt * n + choice. tokens: those whose text is certain, each with
    its log-probabilities; only if these were asked for. finish_reason: with the last delta of the choice.
    canvas: what may still change, of a choice that is watched."""

    index: int
    text: str
    tokens: tuple[tuple[int, Logprobs], ...] = ()
    finish_reason: str | None = None
    canvas: list[str | None] | None = None

    @property
    def is_sketch(self) -> bool:
        """Whether nothing of it is final."""
        return not self.text and not self.tokens and self.finish_reason is None


class Choice:
    """How much of one choice has been handed out."""

    def __init__(self, served: Served, index: int, output: CompletionOutput) -> None:
        self.index = index
        self.output = output
        self._tokenizer = served.tokenizer
        self._num_letters = 0
        self._num_tokens = 0
        self._num_bytes = 0
        self._num_shown_bytes = 0

    def advance(self, event: Event) -> Delta | None:
        """What an event that the answer has taken brought; None if nothing can be said yet."""
        text = self.output.text[self._num_letters :]
        self._num_letters += len(text)
        reason = self.output.finish_reason
        tokens = () if self.output.logprobs is None else self._certain(text, event)
        canvas = self.output.canvas
        if not text and not tokens and reason is None and canvas is None:
            return None
        sketch = None if canvas is None else sketched(self._tokenizer, canvas)
        return Delta(self.index, text, tokens, reason, sketch)

    def _certain(self, text: str, event: Event) -> tuple[tuple[int, Logprobs], ...]:
        """Tokens that no stop string can take away any more, without the token that ended the answer."""
        assert self.output.logprobs is not None
        self._num_shown_bytes += len(text.encode())
        first, ids = self._num_tokens, self.output.token_ids
        if self.output.finish_reason is not None:
            by_token = event.stop_token is not None and not isinstance(self.output.stop_reason, str)
            end = len(ids) - by_token
            self._num_tokens = max(first, end)
        else:
            self._count(ids)
        places = range(first, self._num_tokens)
        return tuple((ids[place], self.output.logprobs[place]) for place in places)

    def _count(self, ids: list[int]) -> None:
        while self._num_tokens < len(ids):
            token = ids[self._num_tokens]
            is_hidden = token in self._tokenizer.special_ids
            size = 0 if is_hidden else len(self._tokenizer.token_bytes(token))
            if self._num_bytes + size > self._num_shown_bytes:
                return
            self._num_bytes += size
            self._num_tokens += 1


class Generation:
    """Use it in `async with`: leaving it cancels what still runs."""

    def __init__(
        self,
        served: Served,
        prompts: Sequence[Prompt],
        params: SamplingParams,
        **choices: Any,
    ) -> None:
        """Submits all prompts. choices: as for `Engine.prepare`.

        Raises UserError when one of them is refused; then none goes on running.
        """
        self.params = params
        self.prompts = list(prompts)
        self.answers: list[Answer] = []
        self.choices: list[Choice] = []
        self._choices = choices
        self._streams: list[AsyncStream] = []
        self._served = served
        self._deltas: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        for prompt in self.prompts:
            refuse_too_long(prompt.ids, params, served.traits.context_length)
        try:
            for prompt in self.prompts:
                self._submit(prompt)
        except BaseException:
            self._cancel()
            raise
        self._tasks = [
            asyncio.create_task(self._pump(*pair))
            for pair in zip(self._streams, self.answers, strict=True)
        ]

    async def deltas(self, patience: float = 0.0) -> AsyncIterator[Delta | None]:
        """What is new, until every choice has ended. None after `patience` seconds of silence (0: never).

        Raises UserError when the engine gives up on a choice.
        """
        num_open = len(self.choices)
        while num_open:
            try:
                async with asyncio.timeout(patience or None):
                    item = await self._deltas.get()
            except TimeoutError:
                yield None
                continue
            if isinstance(item, Exception):
                raise item
            num_open -= item.finish_reason is not None
            yield item

    async def whole(self) -> list[Delta]:
        """All of every choice, in order. Raises UserError when the engine gives up on one."""
        pieces: list[list[Delta]] = [[] for _ in self.choices]
        async for delta in self.deltas():
            assert delta is not None
            pieces[delta.index].append(delta)
        return [joined(each) for each in pieces]

    async def __aenter__(self) -> Generation:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what still runs."""
        for task in self._tasks:
            task.cancel()
        self._cancel()

    def _submit(self, prompt: Prompt) -> None:
        served = self._served
        stream = served.worker.stream_async(prompt.ids, self.params, **self._choices)
        self._streams.append(stream)
        answer = Answer(served.tokenizer, prompt.text, prompt.ids, self.params, stream.ids)
        self.answers.append(answer)
        for output in answer.output.outputs:
            self.choices.append(Choice(served, len(self.choices), output))

    def _cancel(self) -> None:
        for stream in self._streams:
            stream.close()

    @property
    def _has_room(self) -> bool:
        return self._deltas.qsize() < MOST_SKETCHES

    async def _pump(self, stream: AsyncStream, answer: Answer) -> None:
        first = self.answers.index(answer) * self.params.n
        try:
            async for event in stream:
                choice = self.choices[first + stream.ids.index(event.request_id)]
                if answer.take(event):
                    self._served.worker.finish(event.request_id, FinishReason.STOP)
                if event.finish_reason is None and choice.output.finish_reason is not None:
                    continue  # a stop string has ended it; what it cost comes with the last event
                delta = failure_of(choice.output) or choice.advance(event)
                if isinstance(delta, Delta) and delta.is_sketch and not self._has_room:
                    continue  # a newer one will come: who reads slowly must not pile them up
                if delta is not None:
                    self._deltas.put_nowait(delta)
        except Exception as error:  # whoever waits for the answer must hear of it
            self._deltas.put_nowait(error)


def joined(deltas: Sequence[Delta]) -> Delta:
    """Deltas of one choice as one."""
    return Delta(
        deltas[-1].index,
        "".join(delta.text for delta in deltas),
        tuple(token for delta in deltas for token in delta.tokens),
        deltas[-1].finish_reason,
    )


def refuse_too_long(ids: Sequence[int], params: SamplingParams, most: int) -> None:
    """Raise ContextLengthError for an answer that was asked to be longer than the context allows."""
    wanted = 0 if params.infill else params.max_tokens or 0
    if len(ids) + wanted > most and wanted > 1:
        raise ContextLengthError(
            f"the prompt has {len(ids)} tokens and the answer may have {wanted}, together "
            f"{len(ids) + wanted}, but the context holds {most}",
            "shorten the prompt, or ask for fewer tokens",
        )


def failure_of(output: CompletionOutput) -> RefusedError | None:
    """The error that a choice has ended with, if it has."""
    if output.finish_reason == FinishReason.ERROR:
        return RefusedError(500, f"the answer broke off: {output.error}", code="engine_error")
    if output.finish_reason == FinishReason.DEADLINE:
        return overdue()
    if output.finish_reason == FinishReason.CANCELLED:
        return RefusedError(503, "the request was cancelled", "the server is ending")
    return None


def overdue() -> RefusedError:
    """What is said at a deadline."""
    hint = "ask for less, or allow more time"
    return RefusedError(408, "the time for this request is over", hint, code="deadline")
