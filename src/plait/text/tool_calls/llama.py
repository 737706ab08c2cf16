"""Calls as JSON objects with "parameters", which are then all of the answer: Llama 3.1 to 3.3."""

from __future__ import annotations

from plait.text.tool_calls import base

SUMMARY = '{"name": ..., "parameters": ...} instead of an answer'


class Syntax(base.Syntax):
    """Between several calls stands a semicolon, as vLLM reads them."""

    begin = '{"name": "'
    middle = '", "parameters": '
    end = "}"
    separator = "; "

    @classmethod
    def fits(cls, template: str) -> bool:
        return '"parameters": ' in template and "tools" in template
