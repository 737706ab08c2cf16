"""Structural tags: which texts fit, byte by byte, and what is refused."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from plait.core.errors import UserError
from plait.core.structured import StructuredOutputs
from plait.grammar.llguidance import Compiler
from tests.text import small

CALL = {"begin": "<f=add>", "schema": {"type": "integer", "minimum": 0, "maximum": 99}, "end": "</f>"}  # fmt: skip
FLAG = {"begin": "<f=is>", "schema": {"type": "boolean"}, "end": "</f>"}
OLD: dict[str, Any] = {"triggers": ["<f="], "structures": [CALL, FLAG]}


def new(**fields: Any) -> dict[str, Any]:
    tags = [
        {"begin": "<f=add>", "content": {"type": "json_schema", "json_schema": CALL["schema"]}, "end": "</f>"},
        {"begin": "[[", "content": {"type": "regex", "pattern": "[a-z]+/[0-9]"}, "end": "]]"},
    ]  # fmt: skip
    own = {"type": "triggered_tags", "triggers": ["<f=", "[["], "tags": tags}
    return {"format": {**own, **fields}}


@cache
def compiler() -> Compiler:
    own = small.tokenizer()
    return Compiler(lambda: own, own.eos_ids, own.vocab_size)


def fits(tag: dict[str, Any], text: str) -> bool | None:
    """None: it is blocked; else whether it may end so."""
    own = small.tokenizer()
    letters = {own.token_bytes(i): i for i in range(own.vocab_size) if i not in own.special_ids}
    state = compiler().compile(StructuredOutputs(structural_tag=tag))
    for byte in text.encode():
        if not state.advance(letters[bytes([byte])]):
            return None
    return state.is_accepting


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        (OLD, "", True),
        (OLD, "any <b>text</b>\n[[", True),
        (OLD, "so <f=add>12</f> and <f=is>true</f>.", True),
        (OLD, "so <f=add>12", False),
        (OLD, "so <f=add>123", None),
        (OLD, "so <f=other>", None),
        (OLD, "so <f=is>12", None),
        (OLD, "so <f", True),
        (new(), "a [[ab/3]] b", True),
        (new(), "a [[ab3", None),
        (new(at_least_one=True), "words", False),
        (new(at_least_one=True), "words <f=add>1</f> words", True),
        (new(stop_after_first=True), "words <f=add>1</f> ", None),
        (new(stop_after_first=True), "words", True),
        (new(stop_after_first=True, at_least_one=True), "words <f=add>1</f>", True),
        (new(stop_after_first=True, at_least_one=True), "words", False),
    ],
)
def test_text_is_free_and_tags_are_not(
    tag: dict[str, Any], text: str, expected: bool | None
) -> None:
    assert fits(tag, text) is expected


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ({}, "structures"),
        ({**OLD, "triggers": ["<g="]}, "none of the triggers"),
        ({**OLD, "triggers": ["<f=", ""]}, "a trigger is empty"),
        ({**OLD, "triggers": ["<f=", "[["]}, "begins no tag"),
        ({**OLD, "structures": [3]}, "no object"),
        ({**OLD, "structures": [{"begin": "<f=", "end": ""}]}, "neither"),
        ({**OLD, "structures": [CALL] * 200}, "1 to 128"),
        ({"format": {"type": "json_schema"}}, "not known"),
        ({"format": 3}, "no object"),
        (new(at_least_one=1), "neither true nor false"),
        ({**OLD, "structures": [{**CALL, "schema": {"type": "what"}}]}, "structural_tag"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_tag_is_refused(tag: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        compiler().compile(StructuredOutputs(structural_tag=json.dumps(tag)))


def test_space_and_times_in_a_tag_end() -> None:
    schema = {"type": "array", "items": {"type": "string", "format": "time"}}
    tag = {"begin": "<a>", "schema": schema, "end": "</a>"}
    tags = {"triggers": ["<a>"], "structures": [tag]}
    assert fits(tags, "<a>[" + " " * 40) is False
    assert fits(tags, "<a>[" + " " * 41) is None
    assert fits(tags, '<a>["10:00:00.123456789Z"]</a>')
    assert fits(tags, '<a>["10:00:00.' + "0" * 60) is None
