"""A model that needs no weights: it answers with what it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plait.cli.session import Session
from plait.core.config import EngineConfig
from plait.core.errors import ContextLengthError
from plait.core.params import SamplingParams


@dataclass
class Times:
    """Metrics with round numbers: 10 prompt tokens in 0.5 s, then 2 tokens a second."""

    arrival_time: float = 100.0
    first_scheduled_time: float = 100.25
    first_token_time: float = 100.75
    finished_time: float = 102.75
    num_first_tokens: int = 1
    num_cached_tokens: int = 0
    num_forwards: int = 5
    num_forwarded_positions: int = 14
    num_preemptions: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    is_lossy: bool = False
    drafts: Counter[int] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)
    draft_seconds: float = 0.0
    plain_seconds: float = 0.0
    expected_seconds: float = 0.0
    expected_plain_seconds: float = 0.0
    draft_notes: dict[str, str] = field(default_factory=dict)


@dataclass
class Choice:
    index: int
    text: str
    token_ids: list[int]
    finish_reason: str = "stop"
    logprobs: Any = None


@dataclass
class Output:
    prompt: Any
    prompt_token_ids: list[int]
    outputs: list[Choice]
    metrics: Times = field(default_factory=Times)
    finished: bool = True

    def record(self) -> dict[str, Any]:
        return asdict(self)


class FakeSession(Session):
    """Everything a command asks of a Session. asked: every (prompt, params) so far."""

    def __init__(
        self,
        config: EngineConfig | None = None,
        template: Path | None = None,
        pieces: list[Any] | None = None,
    ) -> None:
        self.config = config or EngineConfig()
        self.name = self.config.model
        self.pieces = pieces if pieces is not None else ["You said", ": ", "{prompt}"]
        self.template = None
        self.output = None
        self.asked: list[tuple[Any, SamplingParams]] = []

    @property
    def words(self) -> tuple[str, ...]:
        return ("2 threads",)

    @property
    def context_length(self) -> int:
        return 128

    @property
    def counters(self) -> dict[str, int]:
        return {"head_rows": 7}

    @property
    def vocab_size(self) -> int:
        return 100

    @property
    def has_template(self) -> bool:
        return self.name != "base"

    @property
    def has_canvas(self) -> bool:
        return self.name == "masked"

    def stream(self, prompt: Any, params: SamplingParams, show: Any = None) -> Iterator[str]:
        self.asked.append((prompt, params))
        said = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        if len(said) > self.context_length:
            raise ContextLengthError("the prompt of 999 tokens is longer than 128", "/clear")
        self.output = None
        text = ""
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            text += piece.format(prompt=said)
            yield piece.format(prompt=said)
            if show is not None:
                show([None, "maybe", None])
        self.output = self._output(prompt, text, params)

    def generate(self, prompt: Any, params: SamplingParams) -> Any:
        self.asked.append((prompt, params))
        self.output = self._output(prompt, "an answer", params)
        return self.output

    def outside_kernels(self, context: int, steps: int) -> dict[str, float]:
        return {f"{steps} steps behind {context} tokens": 0.25}

    def _output(self, prompt: Any, text: str, params: SamplingParams) -> Any:
        choices = [Choice(i, text, [1, 2, 3, 4, 5]) for i in range(params.n)]
        return Output(prompt, list(range(10)), choices)
