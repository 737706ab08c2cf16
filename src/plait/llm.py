"""The offline Python API, with vLLM's names: `LLM(model).generate(prompts, SamplingParams(...))`.

The engine runs in a thread of its own, so Ctrl-C takes effect at once, cancels what was asked for and
leaves the model usable; several threads may use one `LLM`, and their requests share batches.
"""

from __future__ import annotations

import os
import queue
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.core.aids import Aids
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Event
from plait.core.window import FinishReason
from plait.engine.build import Progress, build
from plait.engine.worker import Worker
from plait.text.answer import Answer, CompletionOutput, Logprob, RequestOutput
from plait.text.chat import encode_chat
from plait.text.tokenizer import Tokenizer

__all__ = ["LLM", "CompletionOutput", "Logprob", "RequestOutput", "SamplingParams"]

Prompt = str | Mapping[str, Any]
"""Text, {"prompt": text} or {"prompt_token_ids": ids}."""
Messages = Sequence[Mapping[str, Any]]


class LLM:
    """A model that is loaded and runs. Use it in `with`, or `close` it, to give its memory back."""

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        progress: Progress | None = None,
        **settings: Any,
    ) -> None:
        """model: short name, path or hf:owner/name[:file]. settings: the other fields of EngineConfig.

        progress: called with (bytes done, bytes in total, label) during a download. Raises UserError.
        """
        if model is not None:
            settings["model"] = os.fspath(model) if isinstance(model, os.PathLike) else model
        config = EngineConfig(**settings)
        # The engine keeps the list, not this object, which would never be collected.
        known = self._known = list[Tokenizer]()
        aids = Aids(_Texts(self))
        built = build(config, progress, self._read_ends, self._read_draft, aids, lambda: known[0])
        self.traits = built.traits
        self.words = built.words
        self._worker = Worker(built.engine)
        self._finalizer = weakref.finalize(self, _close, self._worker, built.close)

    @property
    def worker(self) -> Worker:
        """The thread that runs the model; for those who want its events in asyncio."""
        return self._worker

    @property
    def context_length(self) -> int:
        """Longest prompt plus answer, in tokens."""
        return self.traits.context_length

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.traits.vocab_size

    @property
    def counters(self) -> Mapping[str, int]:
        """What the executor and the prefix cache counted since the model was loaded."""
        return self._worker.engine.counters

    @property
    def has_chat_template(self) -> bool:
        """Whether the model knows messages."""
        return self.tokenizer.chat_template is not None

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        **choices: Any,
    ) -> list[RequestOutput]:
        """Answers, in the order of the prompts. Control tokens written out in a prompt are read as such.

        sampling_params: for all prompts, or one for each. choices: priority, tenant, deadline (seconds, then
        the finish_reason is "deadline"), planner, decoder, proposer, options, cache_salt, watch.
        Raises UserError when one of them is refused; then none goes on running.
        A request that fails on the way has finish_reason "error".
        """
        many = [prompts] if isinstance(prompts, str | Mapping) else list(prompts)
        return self._run([self._encoded(prompt) for prompt in many], sampling_params, choices)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **choices: Any,
    ) -> list[RequestOutput]:
        """Answers to one conversation or several. Nothing in a message is read as a control token."""
        many = [messages] if messages and isinstance(messages[0], Mapping) else messages
        encoded = [
            encode_chat(
                self.tokenizer,
                conversation,  # type: ignore[arg-type]  # a list of messages by now
                template=chat_template,
                add_generation_prompt=add_generation_prompt,
                tools=tools,
                extra=chat_template_kwargs,
                most_tokens=self.context_length,
            )
            for conversation in many
        ]
        return self._run([(None, ids) for ids in encoded], sampling_params, choices)

    def stream(
        self,
        prompt: Prompt | Messages,
        sampling_params: SamplingParams | None = None,
        **choices: Any,
    ) -> Iterator[RequestOutput]:
        """The answer as it grows: a new record whenever tokens have become final; the last is finished.

        Leaving the loop early cancels the request.
        """
        if isinstance(prompt, str | Mapping):
            text, ids = self._encoded(prompt)
        else:
            most = self.context_length
            text, ids = None, encode_chat(self.tokenizer, prompt, most_tokens=most)
        params = sampling_params or SamplingParams()
        with self._worker.stream(ids, params, **choices) as events:
            answer = Answer(self.tokenizer, text, ids, params, events.ids)
            for event in events:
                if answer.take(event):
                    self._worker.finish(event.request_id, FinishReason.STOP)
                yield answer.snapshot()

    def score(self, token_ids: Sequence[int] | str) -> NDArray[np.float64]:
        """Log-probability of every token given those before it, float64 [n]; NaN for the first."""
        ids = self._encoded(token_ids)[1] if isinstance(token_ids, str) else list(token_ids)
        params = SamplingParams(max_tokens=0, prompt_logprobs=0)
        scores: list[float] = []
        with self._worker.stream(ids, params) as events:
            for event in events:
                if event.error:
                    raise RuntimeError(event.error)
                scores += [np.nan if e is None else e.token for e in event.prompt_logprobs or ()]
        return np.array(scores, np.float64)

    def reset_prefix_cache(self) -> None:
        """Forget what is kept for prompts that begin like earlier ones."""
        self._worker.call(lambda engine: engine.scheduler.cache.drop()).result()

    def close(self) -> None:
        """Cancel what runs and give the memory back."""
        self._finalizer()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_ends(self, tokenizer_source: Any) -> frozenset[int]:
        self.tokenizer = Tokenizer.from_source(tokenizer_source)
        self._known.append(self.tokenizer)
        return self.tokenizer.eos_ids

    def _read_draft(self, tokenizer_source: Any) -> frozenset[int]:
        """Raises UserError for a draft model whose token ids mean something else."""
        draft = Tokenizer.from_source(tokenizer_source)
        pairs = zip(self.tokenizer.vocabulary(), draft.vocabulary(), strict=False)
        different = next((i for i, (own, other) in enumerate(pairs) if own != other), None)
        if different is not None:
            raise UserError(
                f"the second model has another vocabulary: token {different} is "
                f"{draft.token_name(different)!r} there and {self.tokenizer.token_name(different)!r} here",
                "use a smaller model of the same family",
            )
        return draft.eos_ids

    def _encoded(self, prompt: Prompt) -> tuple[str | None, list[int]]:
        """Text, if there is one, and token ids."""
        if isinstance(prompt, Mapping) and "prompt_token_ids" in prompt:
            return prompt.get("prompt"), list(prompt["prompt_token_ids"])
        text = prompt.get("prompt") if isinstance(prompt, Mapping) else prompt
        if not isinstance(text, str):
            raise UserError(
                f"{type(prompt).__name__} is no prompt",
                'text, {"prompt": text} or {"prompt_token_ids": [...]}',
            )
        self.tokenizer.refuse_longer(text, self.context_length)
        return text, self.tokenizer.encode(text, parse_special=True)

    def _run(
        self,
        prompts: list[tuple[str | None, list[int]]],
        params: SamplingParams | Sequence[SamplingParams] | None,
        choices: Mapping[str, Any],
    ) -> list[RequestOutput]:
        """Submit all, then collect until all have ended; whatever interrupts this cancels the rest."""
        each = _one_each(params, len(prompts))
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        answers: list[Answer] = []
        running: dict[int, Answer] = {}
        try:
            for (text, ids), own in zip(prompts, each, strict=True):
                request_ids = self._worker.submit(ids, own, events.put, **choices)
                answers.append(Answer(self.tokenizer, text, ids, own, request_ids))
                running |= dict.fromkeys(request_ids, answers[-1])
            while running:
                event = events.get()
                if running[event.request_id].take(event):
                    self._worker.finish(event.request_id, FinishReason.STOP)
                if event.finish_reason:
                    del running[event.request_id]
        finally:
            for request_id in running:
                self._worker.cancel(request_id)
        return [answer.output for answer in answers]


class _Texts:
    """core.aids.Texts, for as long as the model is open."""

    def __init__(self, llm: LLM) -> None:
        self._llm = weakref.proxy(llm)

    def encode(self, text: str) -> list[int]:
        self._llm.tokenizer.refuse_longer(text, self._llm.context_length)
        ids: list[int] = self._llm.tokenizer.encode(text, parse_special=True)
        return ids

    def rewrite(self, ids: list[int], change: Callable[[str], str]) -> list[int]:
        tokenizer: Tokenizer = self._llm.tokenizer
        before = tokenizer.decode(ids, skip_special=False, at_start=True)
        after = change(before)
        if after == before:
            return ids
        return tokenizer.encode(after, add_special=False, parse_special=True)


def _one_each(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> list[SamplingParams]:
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * count
    if len(params) != count:
        raise UserError(f"{len(params)} params for {count} prompts", "one for all, or one for each")
    return list(params)


def _close(worker: Worker, close_model: Callable[[], None]) -> None:
    worker.shutdown()
    close_model()
