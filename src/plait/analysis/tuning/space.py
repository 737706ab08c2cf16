"""Parameters of a server that change how fast answers come and never the answers, and their values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plait.core.config import EngineConfig
from plait.core.errors import UserError

Settings = tuple[Any, ...]
"""A value for each parameter of a space, in its order."""

STEP_TOKENS = 512
"""What 0 means for max_num_batched_tokens, where it stands among the others."""
PARAMETERS: dict[str, Sequence[Any]] = {
    "max_num_seqs": (2, 4, 8, 16, 32, 64, 128),
    "max_num_batched_tokens": (64, 128, 256, 512, 1024, 2048),
    "max_step_stretch": (1.1, 1.3, 1.6, 2.0, 3.0, 5.0),
    "enable_prefix_caching": (False, True),
    "threads": (),
    "proposer": ("none", "lookahead", "auto"),
}
"""Field of EngineConfig -> what is tried; of threads, all numbers that the machine has."""
UNASKED = tuple(name for name in PARAMETERS if name != "proposer")
"""Those that are searched when nobody says which. What drafting is worth depends on the texts, and those of a
load are random words: whoever searches `proposer` has to know that."""


@dataclass(frozen=True, slots=True)
class Space:
    """names: of fields of EngineConfig. values: of each, at least two, by size. base: the default settings."""

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    base: Settings

    def points(self) -> Iterator[Settings]:
        """All settings."""
        return itertools.product(*self.values)

    def places(self, settings: Settings) -> tuple[int, ...]:
        """Number of each value among those of its parameter. Raises ValueError for one that is not there."""
        return tuple(row.index(one) for row, one in zip(self.values, settings, strict=True))

    def distance(self, one: Settings, other: Settings) -> float:
        """0 for the same, 1 for each parameter that is at the other end."""
        pairs = zip(self.places(one), self.places(other), self.values, strict=True)
        return sum(abs(a - b) / (len(row) - 1) for a, b, row in pairs)

    def named(self, settings: Settings) -> dict[str, Any]:
        """Settings by name of their parameter."""
        return dict(zip(self.names, settings, strict=True))

    def settings(self, named: dict[str, Any]) -> Settings:
        """The opposite. Raises ValueError or KeyError for what is not in the space."""
        if named.keys() != set(self.names):
            raise ValueError(f"settings of {', '.join(named)}")
        found = tuple(named[name] for name in self.names)
        self.places(found)
        return found

    def config(self, config: EngineConfig, settings: Settings) -> EngineConfig:
        """The same engine with these settings."""
        return replace(config, **self.named(settings))


def space(config: EngineConfig, asked: Sequence[str], threads: int) -> Space:
    """The parameters that are asked for, around the values of `config`; all of UNASKED for none.

    asked: names, or name=value,value,... threads: that the machine has, and that `threads=0` means.
    Raises UserError for a name or a value that is none, and when nothing is left to choose.
    """
    wanted = dict(_asked(config, one) for one in asked) or dict.fromkeys(UNASKED, ())
    found = {
        name: _around(name, getattr(config, name), values or _usual(name, threads), threads)
        for name, values in wanted.items()
    }
    found = {name: row for name, row in found.items() if len(row) > 1}
    if not found:
        raise UserError("there is nothing to choose", "--search with two values of a parameter")
    base = tuple(getattr(config, name) for name in found)
    return Space(tuple(found), tuple(found.values()), base)


def _usual(name: str, threads: int) -> Sequence[Any]:
    return range(1, threads + 1) if name == "threads" else PARAMETERS[name]


def _around(name: str, default: Any, values: Sequence[Any], threads: int) -> tuple[Any, ...]:
    """The values with the default, by size; the default stands for what means the same."""
    sizes = {"threads": threads, "max_num_batched_tokens": STEP_TOKENS}

    def size(value: Any) -> Any:
        return value or sizes.get(name, value)

    if isinstance(default, str):
        return tuple(dict.fromkeys((default, *values)))
    row = {size(value): value for value in (*values, default)}
    return tuple(row[key] for key in sorted(row))


def _asked(config: EngineConfig, text: str) -> tuple[str, tuple[Any, ...]]:
    """ "max-num-seqs=4,8" -> ("max_num_seqs", (4, 8))."""
    spelled, equals, values = text.partition("=")
    name = spelled.strip().replace("-", "_")
    if name not in PARAMETERS:
        raise UserError(
            f"{spelled!r} is no parameter that changes the speed and not the answers",
            f"choose among: {', '.join(PARAMETERS)}",
        )
    if not equals:
        return name, ()
    try:
        found = tuple(_value(getattr(config, name), one.strip()) for one in values.split(","))
    except (ValueError, KeyError):
        raise UserError(
            f"{values!r} are no values of {name}", f"such as {name}={getattr(config, name)}"
        ) from None
    for one in found:
        replace(config, **{name: one})  # refuses what is out of range
    return name, found


def _value(like: Any, text: str) -> Any:
    """Text as a value of the same type."""
    if isinstance(like, bool):
        return {"true": True, "false": False}[text.lower()]
    return type(like)(text)
