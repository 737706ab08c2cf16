"""A model that was opened for a command, and the answers it streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

ShowSketch = Callable[[Sequence[str | None]], None]
"""Takes pieces of what may still change, None for an open position (text/sketch.py)."""

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

    def outside_kernels(self, context: int, steps: int) -> dict[str, float]:
        """Share of a step that is not spent in the model's kernels, by the way of choosing a token (analysis/drive.py);
        empty for a model that does not decode token by token."""
        from plait.analysis import drive
        from plait.core.window import PatternKind

        if self.llm.traits.pattern.kind is not PatternKind.CAUSAL:
            return {}
        shares = self.llm.worker.call(lambda engine: drive.outside(engine, context, steps))
        return shares.result()

    @property
    def has_template(self) -> bool:
        """Whether the model knows messages (an instruct model) or only continues text."""
        return self.template is not None or self.llm.has_chat_template

    @property
    def has_canvas(self) -> bool:
        """Whether what it writes may still change (a diffusion model)."""
        from plait.core.window import PatternKind

        traits = self.llm.traits
        if traits.pattern.kind is PatternKind.CAUSAL:  # perhaps a mode of a model with a mask token
            return False
        return traits.mask_token is not None or traits.starts_from_noise

    def stream(
        self, prompt: Prompt, params: SamplingParams, show: ShowSketch | None = None
    ) -> Iterator[str]:
        """The answer's text as it becomes final; `output` holds the record so far.

        show: called with what stands behind a piece, after the piece was taken.
        Leaving the loop early cancels the request. Raises FailedError when the engine gave up on it.
        """
        from plait.text.sketch import sketched

        num_shown = 0
        watch = show is not None
        for output in self.llm.stream(self._rendered(prompt), params, watch=watch):
            self.output = output
            text, canvas = output.outputs[0].text, output.outputs[0].canvas
            yield text[num_shown:]
            num_shown = len(text)
            if show is not None and canvas is not None:
                show(sketched(self.llm.tokenizer, canvas))
        self._check()

    def generate(self, prompt: Prompt, params: SamplingParams) -> RequestOutput:
        """The whole record at once."""
        for output in self.llm.stream(self._rendered(prompt), params):
            self.output = output
        self._check()
        assert self.output is not None
        return self.output

    def encoded(self, prompt: str | list[Message]) -> list[int]:
        """The token ids of what `ask` gave."""
        if isinstance(prompt, str):
            self.llm.tokenizer.refuse_longer(prompt, self.context_length)
            return self.llm.tokenizer.encode(prompt, parse_special=True)
        from plait.text.chat import encode_chat

        return encode_chat(
            self.llm.tokenizer, prompt, template=self.template, most_tokens=self.context_length
        )

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
        return {"prompt_token_ids": self.encoded(prompt)}

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
