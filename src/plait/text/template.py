"""A conversation written out by a model's chat template (jinja, in Hugging Face's dialect)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.exceptions import TemplateSyntaxError

from plait.core.errors import UserError
from plait.text.budget import UNITS, UNITS_PER_LETTER, Budget, allowance
from plait.text.messages import Message, checked, plain
from plait.text.sandbox import Sandbox, num_nodes

MAX_TEMPLATE_LETTERS = 256 << 10
_COMPILE_UNITS = 100_000
_NODES_PER_UNIT = 4
_DATE_FORMAT = re.compile(r"(?:[^%]|%[-_]?[A-Za-z%]){0,200}")


class _Refused(Exception):
    """The template called raise_exception."""


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
    bos_token: str = "",
    eos_token: str = "",
    tools: Sequence[Mapping[str, Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """The text of a conversation.

    messages: see `messages.checked`. add_generation_prompt: end where the model is to go on. tools: JSON
    schemas of the functions that the model may call. extra: further names for the template, as JSON data,
    e.g. {"enable_thinking": False}.
    Raises UserError for messages that are not accepted, by this function or by the template, and for
    templates that fail, do what they may not, or do more work than any conversation needs.
    """
    offered = None if tools is None else plain(list(tools), "tools")
    return render_plain(
        template,
        checked(messages),
        {
            **plain(dict(extra or {}), "extra"),
            "tools": offered,
            "add_generation_prompt": add_generation_prompt,
            "bos_token": bos_token,
            "eos_token": eos_token,
        },
    )


def render_plain(template: str, messages: list[Message], names: Mapping[str, Any]) -> str:
    """As `render_chat`, from messages and names that were checked already."""
    compiled = _compiled(template)
    units = UNITS + UNITS_PER_LETTER * num_letters([messages, *names.values()])
    functions = {"raise_exception": _raise, "strftime_now": _date}
    with allowance(Budget(units, compiled.call_cost)):
        try:
            return compiled.template.render(functions | dict(names) | {"messages": messages})
        except _Refused as error:
            raise UserError(
                f"the model's chat template does not accept these messages: {error}"
            ) from error
        except Exception as error:  # whatever a template does is the template's fault
            raise _failure(error) from error


def num_letters(value: Any) -> int:
    """Letters of all the text in plain data, keys included."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(num_letters, value)) + sum(map(num_letters, value.values()))
    if isinstance(value, Iterable):
        return sum(map(num_letters, value))
    return 1


@dataclass(frozen=True)
class _Compiled:
    """call_cost: units of calling one of the template's macros."""

    template: jinja2.Template
    call_cost: int


@lru_cache(maxsize=16)
def _compiled(template: str) -> _Compiled:
    if len(template) > MAX_TEMPLATE_LETTERS:
        raise UserError(
            f"the chat template has {len(template)} letters",
            f"at most {MAX_TEMPLATE_LETTERS} are accepted",
        )
    sandbox = Sandbox()
    with allowance(Budget(_COMPILE_UNITS)):
        try:
            cost = 1 + num_nodes(sandbox.parse(template)) // _NODES_PER_UNIT
            return _Compiled(sandbox.from_string(template), cost)
        except TemplateSyntaxError as error:
            raise UserError(
                f"line {error.lineno} of the chat template is wrong: {error.message}",
                "give another one with --chat-template FILE",
            ) from error
        except Exception as error:  # nesting too deep for Python's compiler, absurd numbers
            raise _failure(error) from error


def _failure(error: Exception) -> UserError:
    if isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    else:
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
    return UserError(
        f"the model's chat template failed: {reason}", "give another one with --chat-template FILE"
    )


def _raise(message: object) -> None:
    raise _Refused(str(message)[:500])


def _date(form: object) -> str:
    """Today's date; "%4000d" and the like are not accepted."""
    if not isinstance(form, str) or not _DATE_FORMAT.fullmatch(form):
        raise ValueError("strftime_now takes a short format such as '%d %b %Y'")
    return datetime.now().strftime(form)
