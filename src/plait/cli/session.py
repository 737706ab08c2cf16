"""A model that was opened for a command, and the answers it streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plait.cli.terminal import download_bar
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams

if TYPE_CHECKING:
    from plait.llm import LLM, RequestOutput

Message = dict[str, str]
Prompt = str | list[Message] | Mapping[str, Any]
"""A text to go on from, a conversation, or {"prompt_token_ids": ids}."""

MAX_TEMPLATE_BYTES = 1 << 20


class FailedError(UserError):
    """A request that ended with an error of the engine."""

    exit_code = 1


class Session:
    """One model. `output` is the record of the last request, None before the first."""

    def __init__(self, config: EngineConfig, template: Path | None = None) -> None:
        """Fetch what is missing, with a progress bar, and load. Raises UserError.

        template: file with a chat template (jinja) to use instead of the model's own.
        """
        self.name = config.model
        self.template = None if template is None else read_template(template)
        self.llm = _load(config)
        self.output: RequestOutput | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """What was decided while loading, a line each."""
        return self.llm.words

    @property
    def context_length(self) -> int:
        """Longest prompt plus answer, in tokens."""
        return self.llm.context_length

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.llm.vocab_size

    @property
    def counters(self) -> Mapping[str, int]:
        """What the executor and the prefix cache counted since the model was loaded."""
        return self.llm.counters

    @property
    def has_template(self) -> bool:
        """Whether the model knows messages (an instruct model) or only continues text."""
        return self.template is not None or self.llm.has_chat_template

    def stream(self, prompt: Prompt, params: SamplingParams) -> Iterator[str]:
        """The answer's text as it becomes final; `output` holds the record so far.

        Leaving the loop early cancels the request. Raises FailedError when the engine gave up on it.
        """
        num_shown = 0
        for output in self.llm.stream(self._rendered(prompt), params):
            self.output = output
            text = output.outputs[0].text
            yield text[num_shown:]
            num_shown = len(text)
        self._check()

    def generate(self, prompt: Prompt, params: SamplingParams) -> RequestOutput:
        """The whole record at once."""
        for output in self.llm.stream(self._rendered(prompt), params):
            self.output = output
        self._check()
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

    def _rendered(self, prompt: Prompt) -> Prompt:
        if self.template is None or not isinstance(prompt, list):
            return prompt
        from plait.text.chat import encode_chat

        ids = encode_chat(
            self.llm.tokenizer, prompt, template=self.template, most_tokens=self.context_length
        )
        return {"prompt_token_ids": ids}

    def _check(self) -> None:
        for one in self.output.outputs if self.output else ():
            if one.finish_reason == "error":
                raise FailedError(f"the answer broke off: {one.error}")


def read_template(path: Path) -> str:
    """The text of a chat-template file."""
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_TEMPLATE_BYTES else None
        if data is not None:
            return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no chat template: {error}") from None
    raise UserError(f"{path} is no chat template: it is larger than {MAX_TEMPLATE_BYTES:,} bytes")


def fetch(name: str, *, offline: bool) -> Path:
    """A model's file or folder on this machine; a bar shows what is downloaded on the way."""
    from plait.weights import hub

    with download_bar(name) as progress:
        return hub.resolve(name, offline=offline, progress=progress)


def _load(config: EngineConfig) -> LLM:
    # Fetching first answers a mistyped name before numpy and the native module are loaded.
    fetch(config.model, offline=config.offline)
    from plait.llm import LLM

    return LLM(**asdict(config))
