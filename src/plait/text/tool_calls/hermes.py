"""Calls between tags, each a JSON object: Hermes, Qwen2.5 and Qwen3."""

from __future__ import annotations

from plait.text.tool_calls import base

SUMMARY = '<tool_call>{"name": ..., "arguments": ...}</tool_call>, anywhere in an answer'


class Syntax(base.Syntax):
    """The template writes them so; a model that was trained with it does too."""

    begin = '<tool_call>\n{"name": "'
    middle = '", "arguments": '
    end = "}\n</tool_call>"
    separator = "\n"
    trigger = "<tool_call>"

    @classmethod
    def fits(cls, template: str) -> bool:
        return cls.trigger in template
