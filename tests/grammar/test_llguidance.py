"""States, the cache of grammars, and what strangers may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llguidance as library
import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.structured import StructuredOutputs
from plait.grammar import llguidance
from plait.grammar.base import bits
from plait.grammar.llguidance import Compiler
from tests.grammar.cases import LARK, PERSON
from tests.grammar.test_masks import compiler, mask_of
from tests.text import small

NAME = "smollm2-135m"


def schema(build: Callable[[Any], Any], times: int) -> dict[str, Any]:
    inner: Any = {"type": "string"}
    for _ in range(times):
        inner = build(inner)
    return {"type": "object", "properties": {"x": inner}}


def both(inner: Any) -> Any:
    return {
        "type": "object",
        "properties": {"a": inner, "b": inner},
        "required": ["a", "b"],
        "additionalProperties": False,
    }


REFUSED: dict[str, dict[str, Any]] = {
    "exponential nesting": {"json": schema(both, 11)},
    "deep nesting": {"json": schema(lambda inner: {"type": "array", "items": inner}, 400)},
    "many properties": {
        "json": {
            "type": "object",
            "properties": {f"p{i}": {"type": "integer"} for i in range(20_000)},
            "required": [f"p{i}" for i in range(20_000)],
        }
    },
    "a schema elsewhere": {"json": {"$ref": "https://example.com/schema.json"}},
    "an unknown keyword": {"json": {"type": "object", "patternProperties": 3}},
    "no expression": {"regex": "(a"},
    "nested brackets": {"regex": "(" * 5000 + "a" + ")" * 5000},
    "no grammar": {"grammar": "start: missing"},
    "no EBNF": {"grammar": 'root ::= "a" ('},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_what_takes_too_much_or_means_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        compiler(NAME).compile(StructuredOutputs(**fields))
    assert len(error.value.message) < 400


def test_a_step_that_takes_too_much_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    few = library.LLParserLimits(max_items_in_row=30, verbose_errors=False)
    monkeypatch.setattr(llguidance, "limits", lambda: few)
    own = small.tokenizer()
    made = Compiler(lambda: own, own.eos_ids, own.vocab_size)
    properties = {f"p{i}": {"type": "string"} for i in range(40)}
    state = made.compile(StructuredOutputs(json={"type": "object", "properties": properties}))
    with pytest.raises(UserError, match="takes too much"):
        state.replay(own.encode('{"p', add_special=False))
    with pytest.raises(UserError, match="takes too much"):
        state.fill(np.zeros(made.num_words, np.uint32))


def test_a_rollback_gives_the_same_mask() -> None:
    state, rng = compiler(NAME).compile(StructuredOutputs(json=PERSON)), np.random.default_rng(3)
    masks, tokens = [mask_of(state)], list[int]()
    while len(masks) < 30 and not state.is_finished:
        tokens.append(int(rng.choice(bits(masks[-1]))))
        assert state.advance(tokens[-1])
        masks.append(mask_of(state))
    assert state.num_tokens == len(tokens) > 10
    for back in (1, 4, len(tokens) - 5):
        state.rollback(back)
        assert np.array_equal(mask_of(state), masks[state.num_tokens])
    assert state.num_tokens == 0


def test_a_refused_token_changes_nothing() -> None:
    state = compiler(NAME).compile(StructuredOutputs(regex="[0-9]+x"))
    before = mask_of(state)
    wrong = next(i for i in range(1000) if i not in bits(before))
    assert not state.advance(wrong)
    assert np.array_equal(mask_of(state), before)
    assert state.num_tokens == 0


def test_a_fork_goes_its_own_way() -> None:
    state = compiler(NAME).compile(StructuredOutputs(grammar=LARK))
    assert state.replay(bits(mask_of(state))[:1]) == 1
    twin, before = state.fork(), mask_of(state)
    assert twin.num_tokens == 1
    assert twin.advance(bits(before)[0])
    assert np.array_equal(mask_of(state), before)
    assert state.num_tokens == 1


def test_compiled_grammars_are_kept_up_to_a_size() -> None:
    own = small.tokenizer()
    room = 3 * llguidance.MATCHER_BYTES
    made = Compiler(lambda: own, own.eos_ids, own.vocab_size, max_cache_bytes=room)
    for letter in "abcabcabc":
        made.compile(StructuredOutputs(regex=letter))
        assert 0 < made.cached_bytes <= room
    large = StructuredOutputs(regex="a" * 10_000)
    assert made.compile(large).forced() is not None
    assert made.cached_bytes == 0


def test_logits_may_be_wider_than_the_vocabulary() -> None:
    own = small.tokenizer()
    made = Compiler(lambda: own, own.eos_ids, own.vocab_size + 500)
    mask = np.full(made.num_words, 0xFFFFFFFF, np.uint32)
    state = made.compile(StructuredOutputs(regex="[a-z]+"))
    state.fill(mask)
    assert max(bits(mask)) < own.vocab_size
    assert {own.token_bytes(i) for i in bits(mask)} > {b"a", b"hello"}


def test_a_model_without_an_end_has_no_structured_output() -> None:
    own = small.tokenizer()
    with pytest.raises(UserError, match="token to end with"):
        Compiler(lambda: own, frozenset(), own.vocab_size).compile(StructuredOutputs(regex="a"))
