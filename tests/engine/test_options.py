"""Settings by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from plait.core.errors import UserError
from plait.engine.options import resolve


@dataclass(frozen=True, slots=True)
class Planner:
    size: int = 4
    eager: bool = False


@dataclass(frozen=True, slots=True)
class Decoder:
    threshold: float = 0.9
    size: int = 1
    name: str = "x"


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


KINDS = {"planner": Planner, "decoder": Decoder, "cache": Nothing}


def test_without_options_the_defaults_hold() -> None:
    assert resolve({}, KINDS) == {"planner": Planner(), "decoder": Decoder(), "cache": Nothing()}


def test_values_get_the_type_of_their_field() -> None:
    chosen = resolve({"threshold": "0.5", "eager": "True", "decoder.size": "7", "name": "y"}, KINDS)
    assert chosen["decoder"] == Decoder(threshold=0.5, size=7, name="y")
    assert chosen["planner"] == Planner(eager=True)


def test_a_field_that_may_be_left_out_takes_the_type_it_has_otherwise() -> None:
    @dataclass(frozen=True, slots=True)
    class Optional:
        count: int | None = None

    kinds: dict[str, type[Any]] = {"planner": Optional}
    assert resolve({}, kinds)["planner"] == Optional(None)
    assert resolve({"count": "3"}, kinds)["planner"] == Optional(3)
    with pytest.raises(UserError, match="count='three'") as refusal:
        resolve({"count": "three"}, kinds)
    assert refusal.value.hint == "a whole number"


def test_what_is_not_given_is_as_in_the_base() -> None:
    base = {"decoder": Decoder(threshold=0.5, name="y")}
    chosen = resolve({"threshold": "0.7"}, KINDS, base)
    assert chosen["decoder"] == Decoder(threshold=0.7, name="y")
    assert chosen["planner"] == Planner()


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="treshold='1': no part in use") as refusal:
        resolve({"treshold": "1"}, KINDS)
    assert refusal.value.hint == (
        "available: size (planner), eager (planner), threshold (decoder), size (decoder), name (decoder)"
    )
    with pytest.raises(UserError) as refusal:
        resolve({"x": "1"}, {"cache": Nothing})
    assert refusal.value.hint == "these parts have no options"


def test_a_shared_name_has_to_say_whose_it_is() -> None:
    with pytest.raises(UserError, match="more than one part") as refusal:
        resolve({"size": "3"}, KINDS)
    assert refusal.value.hint == "write planner.size or decoder.size"
    assert resolve({"planner.size": "3"}, KINDS)["planner"] == Planner(size=3)


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("planner.size", "3.5", "a whole number"),
        ("threshold", "high", "a number"),
        ("eager", "maybe", "true or false"),
    ],
)
def test_a_value_that_does_not_parse_is_refused(name: str, text: str, hint: str) -> None:
    with pytest.raises(UserError, match=text) as refusal:
        resolve({name: text}, KINDS)
    assert refusal.value.hint == hint
