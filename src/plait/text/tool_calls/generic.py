"""For models that were never taught to call tools: what to do is said in the system message, results come from the user."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from plait.text.tool_calls import base
from plait.text.tool_calls.base import Message, Tool

SUMMARY = '{"name": ..., "arguments": ...} instead of an answer, explained in the system message'

EXPLAINED = (
    "You may call tools. To call one, answer with nothing but a JSON object with its name and arguments, such as "
    '{{"name": "tool", "arguments": {{"key": "value"}}}}. The tools:\n{tools}'
)


class Syntax(base.Syntax):
    """The template of such a model knows neither tools nor their results."""

    begin = '{"name": "'
    middle = '", "arguments": '
    end = "}"
    separator = "\n"

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Tool]
    ) -> tuple[list[Message], list[dict[str, Any]]]:
        offered = [json.dumps(tool.record()["function"], ensure_ascii=False) for tool in tools]
        told = EXPLAINED.format(tools="\n".join(offered))
        head, rest = "", list(messages)
        if rest and rest[0]["role"] == "system":
            head = f"{rest.pop(0)['content']}\n\n"
        system: Message = {"role": "system", "content": head + told}
        return [system, *map(self._rewritten, rest)], []

    def _rewritten(self, message: Message) -> Message:
        if message["role"] == "tool":
            return {"role": "user", "content": f"Result: {message['content']}"}
        calls = [self.written(call["function"]) for call in message.get("tool_calls") or ()]
        if not calls:
            return message
        said = [message["content"]] if message.get("content") else []
        return {"role": message["role"], "content": self.separator.join([*said, *calls])}
