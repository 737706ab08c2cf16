"""How a model writes that it wants a tool to be called, and how that is read: the contract of a syntax.

A call is `begin`, the tool's name, `middle`, the arguments as a JSON object, `end`. A grammar made of these and of the
tools' schemas is what the model is held to: inside a call it can write nothing that does not fit, outside of calls it
may write anything. So reading an answer is splitting it at texts that are known to be there (reader.py).
"""

from __future__ import annotations

import json
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from plait.core import bounds, registry
from plait.core.structured import StructuredOutputs

ROOM = "text/tool_calls"
LAST_RESORT = "generic"
"""The syntax for a model whose template knows no tools."""

Message = dict[str, Any]

STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""Arguments are spaced as templates space them, so that all of the spacing is certain."""


@dataclass(frozen=True, slots=True)
class Tool:
    """parameters: a JSON schema of the arguments, which are an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As templates know it."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": {"type": "object", **self.parameters},
        }
        return {"type": "function", "function": function}


class Syntax(ABC):
    """Siblings are built without arguments.

    trigger: what `begin` starts with, of a syntax whose calls may stand behind other text; "" where an answer is either
    text or calls. separator: what stands between two calls.
    """

    begin: ClassVar[str]
    middle: ClassVar[str]
    end: ClassVar[str]
    separator: ClassVar[str]
    trigger: ClassVar[str] = ""

    @classmethod
    def fits(cls, template: str) -> bool:
        """Whether a chat template teaches this syntax."""
        return False

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[Tool]
    ) -> tuple[list[Message], list[dict[str, Any]]]:
        """Messages and tools as the model's template takes them."""
        return list(messages), [tool.record() for tool in tools]

    def grammar(
        self, tools: Sequence[Tool], *, is_required: bool, is_parallel: bool
    ) -> StructuredOutputs:
        """What the answer fits: a call at least if is_required, several only if is_parallel. Raises UserError."""
        rules = [f"body{i}: {self._body(i, tool)}" for i, tool in enumerate(tools)]
        rules += [f"args{i}: %json {_schema(tool)}" for i, tool in enumerate(tools)]
        body = " | ".join(f"body{i}" for i in range(len(tools)))
        more = f" ({_text(self.separator)} call)*" if is_parallel else ""
        if is_required or not self.trigger:
            calls = f"call{more}"
            start = calls if is_required else f'{calls} | TEXT | ""'
            rules.append(f"call: {_text(self.begin)} ({body})")
            if not is_required:
                rules.append(f"TEXT: /[^{self.begin[0]}](.|\\n)*/")
        else:
            start = "call* rest" if is_parallel else "call | rest"
            rules += [f"call: head {_text(self.begin[len(self.trigger) :])} ({body})"]
            rules += [f"head[lazy]: TEXT {_text(self.trigger)}", "rest: TEXT", "TEXT: /(.|\\n)*/"]
        return StructuredOutputs(grammar="\n".join([f"start: {start}", *rules]))

    def _body(self, index: int, tool: Tool) -> str:
        return f"{_text(tool.name + self.middle)} args{index} {_text(self.end)}"

    def written(self, call: Mapping[str, Any]) -> str:
        """A call of an earlier answer as the model would have written it. call: name, and arguments as data or text."""
        arguments = call["arguments"]
        text = (
            arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        )
        return f"{self.begin}{call['name']}{self.middle}{text}{self.end}"


def syntax_for(template: str) -> Syntax:
    """The syntax that a chat template teaches; the generic one if it teaches none."""
    classes = [registry.load(ROOM, name).Syntax for name in registry.names(ROOM)]
    fitting = [kind for kind in classes if kind.fits(template)]
    kind = fitting[0] if fitting else registry.load(ROOM, LAST_RESORT).Syntax
    made: Syntax = kind()
    return made


def _text(literal: str) -> str:
    return json.dumps(literal, ensure_ascii=False)


def _schema(tool: Tool) -> str:
    """A tool that takes nothing takes an empty object."""
    bare: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
    own = {"type": "object", **tool.parameters} if tool.parameters else bare
    return json.dumps({**bounds.bounded(own), "x-guidance": STYLE}, ensure_ascii=False)
