"""A model that was opened for a command, and the answers it streams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from plait.cli.terminal import download_bar
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams

if TYPE_CHECKING:
    from plait.llm import LLM, RequestOutput

Message = dict[str, str]


class Session:
    """One model. `output` is the record of the last request, None before the first."""

    def __init__(self, config: EngineConfig) -> None:
        """Fetch what is missing, with a progress bar, and load. Raises UserError."""
        self.name = config.model
        fetch(config.model, offline=config.offline)
        self.llm = _load(config)
        self.output: RequestOutput | None = None

    @property
    def context_length(self) -> int:
        """Longest prompt plus answer, in tokens."""
        return self.llm.context_length

    @property
    def has_template(self) -> bool:
        """Whether the model knows messages (an instruct model) or only continues text."""
        return self.llm.has_chat_template

    def stream(self, prompt: str | list[Message], params: SamplingParams) -> Iterator[str]:
        """The answer's text as it becomes final; `output` holds the record when it ends.

        Leaving the loop early cancels the request.
        """
        shown = 0
        for output in self.llm.stream(prompt, params):
            self.output = output
            text = output.outputs[0].text
            if len(text) > shown:
                yield text[shown:]
                shown = len(text)

    def generate(self, prompt: str | list[Message], params: SamplingParams) -> RequestOutput:
        """The whole record at once."""
        for output in self.llm.stream(prompt, params):
            self.output = output
        assert self.output is not None
        return self.output

    def ask(self, text: str, *, system: str, raw: bool) -> str | list[Message]:
        """A prompt for `stream`: messages for an instruct model, the bare text otherwise."""
        if raw or not self.has_template:
            if system:
                reason = "--raw takes none" if raw else f"{self.name} has no chat template"
                raise UserError(f"there is no place for a system message: {reason}")
            return text
        head = [{"role": "system", "content": system}] if system else []
        return [*head, {"role": "user", "content": text}]


def fetch(name: str, *, offline: bool) -> Path:
    """A model's file or folder on this machine; a bar shows what is downloaded on the way."""
    from plait.weights import hub

    with download_bar(name) as progress:
        return hub.resolve(name, offline=offline, progress=progress)


def _load(config: EngineConfig) -> LLM:
    from plait.llm import LLM

    return LLM(**asdict(config))
