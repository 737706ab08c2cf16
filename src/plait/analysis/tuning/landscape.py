"""What was measured of a space of settings: kept in a file, with the raw times of every answer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from plait.analysis.tuning.objective import Answer, Measure, Objective
from plait.analysis.tuning.space import Settings, Space
from plait.core.errors import UserError

MOST_BYTES = 1 << 28
HINT = "a file that `plait tune --out` wrote"


@dataclass(slots=True)
class Trial:
    """One setting of the space. measures: of the tuning loads, in the order in which they were taken.

    error: why a server with it did not start or was too slow; empty for none.
    """

    settings: Settings
    measures: list[Measure] = field(default_factory=list)
    error: str = ""

    def value(self, objective: Objective) -> float | None:
        """Median over the loads; None when one of them failed."""
        values = [objective.value(one) for one in self.measures]
        known = [one for one in values if one is not None]
        return median(known) if known and len(known) == len(values) and not self.error else None


@dataclass(slots=True)
class Round:
    """One held-out load on both servers, one after the other."""

    default: Measure
    tuned: Measure


@dataclass(slots=True)
class Landscape:
    """setup: what the numbers hold for (model, machine, load, ...), plain data. trials: in order of their first.

    tuned: the settings that `rounds` compared with the default; None before that. found: the verdict in words and
    numbers, for who reads the file.
    """

    setup: dict[str, Any]
    space: Space
    trials: dict[Settings, Trial] = field(default_factory=dict)
    tuned: Settings | None = None
    rounds: list[Round] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)

    def add(self, settings: Settings, measure: Measure | None, error: str = "") -> Trial:
        """A measure of these settings, or the reason why there is none."""
        trial = self.trials.setdefault(settings, Trial(settings))
        if measure is not None:
            trial.measures.append(measure)
        trial.error = error or trial.error
        return trial

    def best(self, objective: Objective, among: Sequence[Settings] | None = None) -> list[Trial]:
        """Trials that have a value, the best first; of equals the earlier."""
        chosen = [self.trials[one] for one in among] if among else list(self.trials.values())
        valued = [(trial.value(objective), trial) for trial in chosen]
        known = [(value, trial) for value, trial in valued if value is not None]
        known.sort(key=lambda pair: pair[0], reverse=not objective.is_time)
        return [trial for _, trial in known]

    def compare(self, settings: Settings) -> None:
        """Begin the rounds with these settings, unless they are those that were compared already."""
        if self.tuned != settings:
            self.tuned, self.rounds = settings, []

    def save(self, path: Path) -> None:
        """Write it, as a whole or not at all."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_text(self._text(), encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _text(self) -> str:
        """JSON with a line for each trial and round."""
        space, tuned = self.space, self.tuned
        fields = {
            "setup": self.setup,
            "space": space.named(space.values),
            "default": space.named(space.base),
            "tuned": None if tuned is None else space.named(tuned),
            "found": self.found,
            "columns": Answer._fields,
        }
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
        trials = [_trial(space, one) for one in self.trials.values()]
        rounds = [
            {"default": _measure(one.default), "tuned": _measure(one.tuned)} for one in self.rounds
        ]
        for name, rows in (("trials", trials), ("rounds", rounds)):
            text = ",\n  ".join(json.dumps(row) for row in rows)
            lines.append(f'"{name}": [\n  {text}\n ]' if rows else f'"{name}": []')
        return "{\n " + ",\n ".join(lines) + "\n}\n"


def read(path: Path) -> Landscape:
    """What `save` wrote. Raises UserError for any other file, and OSError when it cannot be read."""
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MB", HINT)
    try:
        return _landscape(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no recorded landscape ({said})", HINT) from None


def _landscape(fields: dict[str, Any]) -> Landscape:
    values = {name: tuple(row) for name, row in fields["space"].items()}
    space = Space(tuple(values), tuple(values.values()), tuple(fields["default"].values()))
    if not values or min(map(len, values.values())) < 2:
        raise ValueError("a space without a choice")
    space.settings(fields["default"])
    found = Landscape(dict(fields["setup"]), space, found=dict(fields["found"]))
    for row in fields["trials"]:
        trial = Trial(space.settings(row["settings"]), [], str(row["error"]))
        trial.measures = [_measured(one) for one in row["measures"]]
        found.trials[trial.settings] = trial
    if fields["tuned"] is not None:
        found.tuned = space.settings(fields["tuned"])
        found.rounds = [
            Round(_measured(one["default"]), _measured(one["tuned"])) for one in fields["rounds"]
        ]
    return found


def _trial(space: Space, one: Trial) -> dict[str, Any]:
    return {
        "settings": space.named(one.settings),
        "error": one.error,
        "measures": [_measure(measure) for measure in one.measures],
    }


def _measure(one: Measure) -> dict[str, Any]:
    return {
        "seed": one.seed,
        "load_average": one.load_average,
        "errors": one.errors,
        "answers": one.answers,
    }


def _measured(row: dict[str, Any]) -> Measure:
    answers = tuple(Answer(*one) for one in row["answers"])
    errors = {str(kind): int(count) for kind, count in row["errors"].items()}
    return Measure(int(row["seed"]), answers, errors, float(row["load_average"]))
