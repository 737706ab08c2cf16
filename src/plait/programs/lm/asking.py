"""Requests of one run of a program: they go to the engine, and what they cost into its ledger."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from plait.core.params import SamplingParams
from plait.core.window import FinishReason, TokenLogprobs
from plait.grammar.base import State
from plait.llm import LLM
from plait.programs.lm.ledger import Ledger
from plait.text.answer import Answer

Result = TypeVar("Result")


@dataclass(slots=True)
class Output:
    """One choice. ids: with what ended it. text: with the stop text, without the stop token. stop: that text.
    ended_by: the stop token. entries: log-probabilities, one per id, if they were asked for."""

    ids: list[int]
    text: str
    stop: str | None
    ended_by: int | None
    is_cut: bool
    entries: list[TokenLogprobs] = field(default_factory=list)

    @property
    def kept(self) -> list[int]:
        """The ids without the stop token."""
        return self.ids if self.ended_by is None else self.ids[:-1]


class Asking:
    """The model, and the ledger. One event loop."""

    def __init__(self, llm: LLM, ledger: Ledger, choices: dict[str, Any]) -> None:
        """choices: for every request, as for `Engine.prepare`."""
        self.llm = llm
        self.ledger = ledger
        self._choices = choices

    def state(self, params: SamplingParams) -> State | None:
        """Where an answer begins in its grammar, if it has one."""
        return self.llm.worker.engine.constraining.state(params)

    async def generate(
        self, prompt: Sequence[int], params: SamplingParams, *, answered: int = 0
    ) -> list[Output]:
        """The choices of a request. answered: tokens at the end of the prompt that are the beginning of the answer.
        Raises RuntimeError for one that breaks off."""
        worker, own = self.llm.worker, dict(self._choices, answered=answered)
        async with worker.stream_async(prompt, params, **own) as events:
            answer = Answer(self.llm.tokenizer, None, prompt, params, events.ids)
            entries: dict[int, list[TokenLogprobs]] = {key: [] for key in events.ids}
            ends: dict[int, int | None] = {}
            async for event in events:
                if answer.take(event):
                    worker.finish(event.request_id, FinishReason.STOP)
                entries[event.request_id] += event.logprobs
                if event.finish_reason:
                    ends[event.request_id] = event.stop_token
                if event.metrics:
                    self.ledger.ran(event.metrics)
        outputs = []
        for key, one in zip(events.ids, answer.output.outputs, strict=True):
            if one.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH):
                raise RuntimeError(one.error or f"a request ended early: {one.finish_reason}")
            stop = one.stop_reason if isinstance(one.stop_reason, str) else None
            ended_by = None if stop is not None else ends[key]
            is_cut = one.finish_reason == FinishReason.LENGTH
            logs = entries[key][: len(one.token_ids)]
            outputs.append(Output(one.token_ids, one.text, stop, ended_by, is_cut, logs))
        return outputs

    async def score(self, ids: Sequence[int], start: int) -> list[float]:
        """Log-probability of each token from `start` on, given those before it."""
        found = await self._scores(ids, start)
        self.ledger.asked(start, len(ids) - start)
        return found

    async def read(self, ids: Sequence[int]) -> None:
        """Compute a prompt of at least two tokens, for requests that go on from it."""
        await self._scores(ids, len(ids) - 1)

    async def _scores(self, ids: Sequence[int], start: int) -> list[float]:
        params = SamplingParams(max_tokens=0, prompt_logprobs=0)
        found: list[float] = []
        stream = self.llm.worker.stream_async(ids, params, score_from=start, **self._choices)
        async with stream as events:
            async for event in events:
                if event.error or event.finish_reason not in (None, FinishReason.LENGTH):
                    raise RuntimeError(event.error or f"a score ended early: {event.finish_reason}")
                scored = (event.prompt_logprobs or ())[start:]
                found += [entry.token for entry in scored if entry is not None]
                if event.metrics:
                    self.ledger.ran(event.metrics)
        return found


class Common:
    """What forks have in common and nobody has computed: whoever goes on first has it computed, the others wait."""

    def __init__(self, asking: Asking, ids: Sequence[int]) -> None:
        self.length = len(ids)
        self._asking, self._ids = asking, list(ids)
        self._task: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Until it is computed."""
        if self._task is None:
            self._task = asyncio.create_task(self._asking.read(self._ids))
        await asyncio.shield(self._task)


def derived_seed(seed: int, *path: int) -> int:
    """A seed for a place in a program, 64 bits."""
    spelled = ":".join(map(str, (seed, *path))).encode()
    return int.from_bytes(hashlib.blake2b(spelled, digest_size=8).digest(), "little")


async def together(calls: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """What all of them give, running at the same time; the first that fails ends the others."""
    tasks: list[asyncio.Task[Result]] = [asyncio.create_task(call) for call in calls]
    everything: Awaitable[list[Result]] = asyncio.gather(*tasks)
    try:
        return await everything
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
