"""Numbers and times end, where a schema lets them go on for ever; everything else may be as long as it likes."""

from __future__ import annotations

from typing import Any

import pytest

from plait.core.bounds import bounded
from plait.core.structured import StructuredOutputs
from plait.grammar.base import State, bits
from plait.grammar.numbers import MOST_CHARACTERS, Standing
from tests.grammar.test_masks import compiler, mask_of, tried
from tests.text.models import tokenizer

NAME = "smollm2-135m"


def state(schema: Any) -> State:
    return compiler(NAME).compile(StructuredOutputs(json=schema, disable_any_whitespace=True))


def ids(text: str) -> list[int]:
    """A token per letter, as a model may write them."""
    return [tokenizer(NAME).encode(letter, add_special=False)[0] for letter in text]


def spelled(tokens: list[int]) -> set[bytes]:
    words = tokenizer(NAME).vocabulary()
    return {words[token] for token in tokens}


NUMBERS = ["0." + "0" * 60, "-" + "7" * 60, "1e" + "0" * 60]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_ends(text: str) -> None:
    own = state({"type": "array", "items": {"type": "number"}})
    assert own.replay(ids("[" + text)) == 1 + MOST_CHARACTERS
    allowed = bits(mask_of(own))
    assert set(allowed) == tried(own, NAME)
    assert {each[:1] for each in spelled(allowed)} == {b",", b"]"}
    other = own.fork()
    own.rollback(2)
    assert own.replay(ids(4 * text[-1])) == 2
    assert other.replay(ids(",1]")) == 3
    assert other.is_finished


def test_one_that_stands_alone_ends_too() -> None:
    own = state({"type": "integer"})
    assert own.replay(ids("9" * 60)) == MOST_CHARACTERS
    assert own.is_accepting
    assert set(bits(mask_of(own))) == tokenizer(NAME).eos_ids


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"const": 10**59}, str(10**59)),
        ({"enum": ["3" * 60]}, f'"{"3" * 60}"'),
        ({"type": "string"}, '"' + "3" * 60 + '\\"' + "3" * 60 + '"'),
        ({"type": "string", "format": "uri"}, f'"http://a.b/{"3" * 60}"'),
        ({"type": "string", "format": "time", "maxLength": 50}, f'"10:00:00.{"3" * 30}Z"'),
    ],
)
def test_what_has_a_meaning_may_be_long(schema: Any, text: str) -> None:
    own = state(schema)
    assert own.replay(ids(text)) == len(text)
    assert own.is_accepting


@pytest.mark.parametrize("name", ["time", "date-time"])
@pytest.mark.parametrize("build", ["plain", "property", "item", "reference", "alternative"])
def test_a_time_ends(name: str, build: str) -> None:
    own: dict[str, Any] = {"type": "string", "format": name}
    begin, schema = {
        "plain": ("", own),
        "property": (
            '{"format":',
            {"type": "object", "properties": {"format": own}, "required": ["format"]},
        ),
        "item": ("[", {"type": "array", "items": own}),
        "reference": ("[", {"$defs": {"t": own}, "type": "array", "items": {"$ref": "#/$defs/t"}}),
        "alternative": ("", {"anyOf": [own, {"type": "null"}]}),
    }[build]
    date = "2026-02-28T" if name == "date-time" else ""
    made = state(schema)
    text = f'{begin}"{date}10:00:00.123456789+01:00"'
    assert made.replay(ids(text)) == len(text)
    endless = f'{begin}"{date}10:00:00.{"0" * 99}'
    assert state(schema).replay(ids(endless)) < len(begin) + 40


def test_a_place_is_that_of_the_text_however_it_is_cut() -> None:
    text = b'{"a\\"1": [-1.5e3, 12], "b\\\\": 77'
    whole = Standing().after(text)
    for cut in range(len(text) + 1):
        assert Standing().after(text[:cut]).after(text[cut:]) == whole
    assert whole == Standing(length=2)
    assert Standing().after(b'"\\') == Standing(in_string=True, is_escaped=True)


def test_one_that_has_to_be_more_than_zero_ends() -> None:
    own = state({"type": "number", "exclusiveMinimum": 0})
    assert own.replay(ids("0." + "0" * 60)) == MOST_CHARACTERS
    allowed = spelled(bits(mask_of(own)))
    assert {each[:1] for each in allowed} <= {bytes([digit]) for digit in b"123456789"}
    assert set(bits(mask_of(own))) == tried(own, NAME)
    assert own.advance(ids("5")[0])
    assert own.is_accepting


def test_in_the_middle_of_a_text_a_number_is_what_it_is() -> None:
    asked = StructuredOutputs(json={"type": "integer"}, open_end=True)
    own = compiler(NAME).compile(asked)
    assert own.replay(ids("7" * 60)) == 60
    assert not own.is_closed


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"minLength": 35}, "10:00:00." + "1" * 40 + "Z"),
        ({"const": "10:00:00." + "1" * 30 + "Z"}, "10:00:00." + "1" * 30 + "Z"),
        ({"enum": ["10:00:00." + "2" * 30 + "Z"]}, "10:00:00." + "2" * 30 + "Z"),
    ],
)
def test_what_a_schema_says_of_its_times_is_kept(more: dict[str, Any], text: str) -> None:
    own = state({"type": "string", "format": "time", **more})
    assert own.replay(ids(f'"{text}"')) == len(text) + 2


def test_a_list_of_items_is_walked() -> None:
    own: dict[str, Any] = {"type": "string", "format": "time"}
    assert bounded({"items": [own, True]}) == {"items": [{**own, "maxLength": 24}, True]}
    assert bounded({"allOf": [own]}) == {"allOf": [own]}
    assert bounded({"properties": {"format": own}, "const": own}) == {
        "properties": {"format": {**own, "maxLength": 24}},
        "const": own,
    }
