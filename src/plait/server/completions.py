"""/v1/completions: a text, or several, to go on from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from plait.server import prompts
from plait.server.accounts import timings_of, usage_of
from plait.server.generation import Delta, Generation
from plait.server.reply import generation_for, reply
from plait.server.schema.common import Timings, Usage, new_id, now
from plait.server.schema.completions import (
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionRequest,
    WatchedChoice,
)
from plait.server.scores import Scored, completion_logprobs
from plait.server.state import Served, state_of
from plait.server.stream import DONE, PING, event


async def answer(body: CompletionRequest, request: Request) -> Response:
    """The whole answer, or a stream of it. Raises UserError."""
    state = state_of(request)
    served, most = state.served, state.settings.max_choices
    prompts.check_model(served, body.model)
    params = body.params(served.worker.engine.limits.max_request_tokens)
    texts = await prompts.encoded(served, body.prompt, most)
    prompts.refuse_many(len(texts), params.n, most)
    generation = await generation_for(request, body, texts, params)
    return await reply(request, body, generation, _Maker(body, served, generation))


class _Maker:
    """Makes the answer of one request, whole or in pieces: a piece may as well be all of it."""

    def __init__(self, body: CompletionRequest, served: Served, generation: Generation) -> None:
        self.body = body
        self.served = served
        self.generation = generation
        self.id, self.created = new_id("cmpl-"), now()
        self._num_letters: dict[int, int] = {}

    def whole(self, deltas: list[Delta]) -> Completion:
        """The answer to a request that has ended."""
        choices = [self._piece(delta) for delta in deltas]
        return self._completion(choices, usage_of(self.generation), timings_of(self.generation))

    async def stream(self, patience: float) -> AsyncIterator[bytes]:
        """The same in pieces."""
        options = self.body.stream_options
        wants_usage = options is not None and options.include_usage
        num_open = len(self.generation.choices)
        async for delta in self.generation.deltas(patience):
            if delta is None:
                yield PING
                continue
            num_open -= delta.finish_reason is not None
            timings = timings_of(self.generation) if not (num_open or wants_usage) else None
            yield self._event([self._piece(delta)], None, timings)
        if wants_usage:
            yield self._event([], usage_of(self.generation), timings_of(self.generation))
        yield DONE

    def _piece(self, delta: Delta) -> CompletionChoice:
        text, tokens = delta.text, list[Scored](delta.tokens)
        if delta.index not in self._num_letters:
            self._num_letters[delta.index] = 0
            if self.body.echo:
                text, tokens = self._echo(delta.index, text, tokens)
        said: dict[str, Any] = {
            "index": delta.index,
            "text": text,
            "logprobs": None if self.body.logprobs is None else self._scores(delta.index, tokens),
            "finish_reason": delta.finish_reason,
        }
        if delta.canvas is not None:
            return WatchedChoice(**said, canvas=delta.canvas)
        return CompletionChoice(**said)

    def _echo(self, index: int, text: str, tokens: list[Scored]) -> tuple[str, list[Scored]]:
        """The same with the prompt before it."""
        output = self.generation.answers[index // self.generation.params.n].output
        ids, prompt = output.prompt_token_ids, output.prompt
        if prompt is None:
            prompt = self.served.tokenizer.decode(ids, at_start=True)
        entries = output.prompt_logprobs or [None] * len(ids)
        return prompt + text, [*zip(ids, entries, strict=True), *tokens]

    def _scores(self, index: int, tokens: list[Scored]) -> CompletionLogprobs:
        num_top, offset = self.body.logprobs or 0, self._num_letters[index]
        scores = completion_logprobs(self.served.tokenizer, tokens, num_top, offset)
        self._num_letters[index] += sum(map(len, scores.tokens))
        return scores

    def _event(
        self, choices: list[CompletionChoice], usage: Usage | None, timings: Timings | None
    ) -> bytes:
        return event(self._completion(choices, usage, timings).model_dump_json())

    def _completion(
        self, choices: list[CompletionChoice], usage: Usage | None, timings: Timings | None
    ) -> Completion:
        return Completion(
            id=self.id,
            object="text_completion",
            created=self.created,
            model=self.served.names[0],
            choices=choices,
            usage=usage,
            timings=timings,
        )
