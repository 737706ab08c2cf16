"""Tools of a chat: what is offered, what is chosen, what is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from plait.core.errors import UserError
from plait.server.schema.common import Answer, Body
from plait.text.tool_calls.base import Tool

MAX_TOOLS = 128
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class Function(Body):
    """strict: arguments always fit the schema, whether this is set or not."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class OfferedTool(Body):
    """A function that the model may call; who asks carries the call out."""

    type: Literal["function"]
    function: Function

    def plain(self) -> Tool:
        """As plait.text has it."""
        own = self.function
        return Tool(own.name, own.description or "", own.parameters or {})


class NamedFunction(Body):
    """The one to call."""

    name: FunctionName


class NamedTool(Body):
    """A choice of one tool by its name."""

    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool
Tools = Annotated[list[OfferedTool], Field(max_length=MAX_TOOLS)]


class CalledFunction(Body):
    """arguments: JSON text, the beginning of it if the answer was cut."""

    name: FunctionName
    arguments: str


class MadeCall(Body):
    """A call, of this answer or of an earlier one."""

    id: Annotated[str, Field(max_length=128)]
    type: Literal["function"] = "function"
    function: CalledFunction


class FunctionDelta(Answer):
    """name: with the first piece of a call."""

    name: str | None = None
    arguments: str


class CallDelta(Answer):
    """What a stream has of a call that is new; id and type with the first piece."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class FlatTool(Function):
    """The same as /v1/responses has it."""

    type: Literal["function"]

    def plain(self) -> Tool:
        """As plait.text has it."""
        return Tool(self.name, self.description or "", self.parameters or {})


class FlatNamedTool(NamedFunction):
    """The same as /v1/responses has it."""

    type: Literal["function"]


FlatToolChoice = Literal["none", "auto", "required"] | FlatNamedTool
FlatTools = Annotated[list[FlatTool], Field(max_length=MAX_TOOLS)]


def chosen(
    tools: Sequence[OfferedTool | FlatTool] | None, choice: ToolChoice | FlatToolChoice | None
) -> list[Tool]:
    """The tools that may be called. Raises UserError for a choice that is not among them."""
    offered = [tool.plain() for tool in tools or ()]
    names = [tool.name for tool in offered]
    if len(set(names)) < len(names):
        raise UserError("tools has two of one name", "a name for each")
    if choice is None or choice == "none":
        return [] if choice == "none" else offered
    if not isinstance(choice, str):
        named = choice.function.name if isinstance(choice, NamedTool) else choice.name
        offered = [tool for tool in offered if tool.name == named]
        if not offered:
            raise UserError(
                f"tool_choice: no tool is called {named!r}",
                f"one of {', '.join(names)}" if names else "give it in tools",
            )
    if not offered and choice != "auto":
        raise UserError("tool_choice needs tools", "give them, or leave it out")
    return offered
