"""The items of an answer of /v1/responses as they come: what is said, and calls."""

from __future__ import annotations

from typing import Any

from plait.core.params import SamplingParams
from plait.server.calls import Calls
from plait.server.generation import Delta
from plait.server.schema.common import TokenLogprob, new_id
from plait.server.schema.responses import OutputCall, OutputMessage, OutputText
from plait.server.scores import token_logprobs
from plait.server.state import Served
from plait.text.tool_calls.base import Syntax
from plait.text.tool_calls.reader import Piece

Told = tuple[str, dict[str, Any]]
"""A kind of event, and its fields."""


class Items:
    """Of one answer. output: all of them so far, the last one perhaps still open."""

    def __init__(self, served: Served, params: SamplingParams, syntax: Syntax | None) -> None:
        """syntax: of calls, where there are tools to be called."""
        self.output: list[OutputMessage | OutputCall] = []
        self._calls = Calls(syntax)
        self._has_tools = syntax is not None
        self._tokenizer, self._num_top = served.tokenizer, params.logprobs or 0
        self._is_open = False

    def begin(self) -> list[Told]:
        """Where nothing can be called there is one message, whatever it will say."""
        return [] if self._has_tools else self._message()

    def take(self, delta: Delta) -> list[Told]:
        """What a piece of the answer makes of them."""
        is_end = delta.finish_reason is not None
        if not self._has_tools:
            scores = token_logprobs(self._tokenizer, delta.tokens, self._num_top)
            return self._say(delta.text, scores) if delta.text or delta.tokens else []
        told: list[Told] = []
        for piece in self._calls.read(delta.text, is_end=is_end):
            told += self._piece(piece)
        return told

    def end(self, *, is_complete: bool) -> list[Told]:
        """Closes the last one; an answer that has none is an empty message."""
        told = [] if self.output else self._message()
        return told + self._close("completed" if is_complete else "incomplete")

    def _piece(self, piece: Piece) -> list[Told]:
        if piece.call is None:
            is_message = self._is_open and isinstance(self.output[-1], OutputMessage)
            told = [] if is_message else [*self._close("completed"), *self._message()]
            return told + self._say(piece.text, [])
        if piece.name is not None:
            return [*self._close("completed"), *self._call(piece.name)]
        item = self.output[-1]
        assert isinstance(item, OutputCall)
        item.arguments += piece.text
        place = {"item_id": item.id, "output_index": self._last}
        return [("response.function_call_arguments.delta", {**place, "delta": piece.text})]

    @property
    def _last(self) -> int:
        return len(self.output) - 1

    def _open(self, item: OutputMessage | OutputCall) -> Told:
        self.output.append(item)
        self._is_open = True
        shown = item.model_dump() | ({"content": []} if isinstance(item, OutputMessage) else {})
        return "response.output_item.added", {"output_index": self._last, "item": shown}

    def _message(self) -> list[Told]:
        part = OutputText(text="")
        message = OutputMessage(id=new_id("msg_"), status="in_progress", content=[part])
        told = self._open(message)
        fields = {**self._place(message), "part": part.model_dump()}
        return [told, ("response.content_part.added", fields)]

    def _call(self, name: str) -> list[Told]:
        ids = new_id("fc_"), new_id("call_")
        call = OutputCall(id=ids[0], status="in_progress", call_id=ids[1], name=name, arguments="")
        return [self._open(call)]

    def _say(self, text: str, scores: list[TokenLogprob]) -> list[Told]:
        message = self.output[-1]
        assert isinstance(message, OutputMessage)
        (part,) = message.content
        part.text += text
        part.logprobs = [*part.logprobs, *scores]
        said = {"delta": text, "logprobs": _without_bytes(scores)}
        return [("response.output_text.delta", {**self._place(message), **said})]

    def _close(self, status: Any) -> list[Told]:
        if not self._is_open:
            return []
        self._is_open, item = False, self.output[-1]
        item.status = status
        done = "response.output_item.done", {"output_index": self._last, "item": item.model_dump()}
        if isinstance(item, OutputCall):
            whole = {"arguments": item.arguments, "name": item.name}
            fields = {"item_id": item.id, "output_index": self._last, **whole}
            return [("response.function_call_arguments.done", fields), done]
        place, (part,) = self._place(item), item.content
        said = {"text": part.text, "logprobs": _without_bytes(part.logprobs)}
        return [
            ("response.output_text.done", {**place, **said}),
            ("response.content_part.done", {**place, "part": part.model_dump()}),
            done,
        ]

    def _place(self, message: OutputMessage) -> dict[str, Any]:
        return {"item_id": message.id, "output_index": self._last, "content_index": 0}


def _without_bytes(scores: list[TokenLogprob]) -> list[dict[str, Any]]:
    """As the events of a text have them."""
    exclude: dict[str, Any] = {"bytes": True, "top_logprobs": {"__all__": {"bytes"}}}
    return [one.model_dump(exclude=exclude) for one in scores]
