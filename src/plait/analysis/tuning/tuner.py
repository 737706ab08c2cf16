"""The whole of `plait tune`: record a landscape, look again at its best settings, compare on held-out loads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import mean

from plait.analysis.tuning.landscape import Landscape, Round, Trial
from plait.analysis.tuning.objective import Measure, Objective
from plait.analysis.tuning.search import History, Propose, search
from plait.analysis.tuning.served import FailedError, Served
from plait.analysis.tuning.space import Settings
from plait.analysis.workload import Load
from plait.core.errors import UserError

FINALISTS = 3
SLOWEST = 3.0
LEAST_SECONDS = 20.0
"""A load may take as many times as long as with the default settings, or these seconds."""
HELD_OUT = 1_000_000
"""Added to the seed for the loads that the settings are not chosen by."""


@dataclass(frozen=True, slots=True)
class Plan:
    """trials: settings to have tried. repeats: tuning loads that decide among the best. rounds: held-out loads.

    seconds: that all of it may take; the search leaves what the rest will take.
    """

    trials: int
    repeats: int
    rounds: int
    seconds: float


class Tuner:
    """landscape: what was measured before, and what will be. command: settings -> that of their server.

    keep: called after each measure, to write it down. say: gets a line for each.
    """

    def __init__(
        self,
        landscape: Landscape,
        load: Load,
        objective: Objective,
        plan: Plan,
        *,
        model: str,
        command: Callable[[Settings], list[str]],
        keep: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.landscape, self.load, self.objective, self.plan = landscape, load, objective, plan
        self.model, self.command, self.keep, self.say = model, command, keep, say
        self._until = time.monotonic() + plan.seconds
        self._took: list[float] = []

    def search(self, propose: Propose) -> None:
        """Measure settings that `propose` names until there are enough, or time is short."""
        space = self.landscape.space
        history = tried(self.landscape, self.objective)
        found = search(space, space.points(), history, propose, self._try, self._goes_on)
        if len(found) < self.plan.trials:
            self.say(f"{len(found)} of {self.plan.trials} settings: no time, or no more of them")

    def finals(self) -> Trial | None:
        """The best settings, once the default and the best have answered further tuning loads in turns.

        None when the default is not beaten there, or does not work.
        """
        base = self.landscape.space.base
        best = self.landscape.best(self.objective)
        names = [base, *(one.settings for one in best if one.settings != base)][: FINALISTS + 1]
        for number in range(1, self.plan.repeats):
            for one in names:
                trial = self.landscape.trials[one]
                if len(trial.measures) <= number and not trial.error and self._has_time(1):
                    self._try(one, number)
        # those that time did not suffice for have less to show
        most = max(len(self.landscape.trials[one].measures) for one in names)
        names = [one for one in names if len(self.landscape.trials[one].measures) == most]
        ranked = self.landscape.best(self.objective, names)
        return ranked[0] if ranked and ranked[0].settings != base else None

    def compare(self, tuned: Settings) -> list[Round]:
        """Held-out loads on the default and these settings, in turns, until there are enough or time is up."""
        self.landscape.compare(tuned)
        rounds, base = self.landscape.rounds, self.landscape.space.base
        while len(rounds) < self.plan.rounds and self._has_time(2):
            number = len(rounds)
            pair = (base, tuned) if number % 2 == 0 else (tuned, base)
            seed = self.load.seed + HELD_OUT + number
            found = {one: self._measure(one, seed) for one in pair}
            rounds.append(Round(found[base], found[tuned]))
            self.keep()
            self.say(self._pair(number, rounds[-1]))
        return rounds

    def _goes_on(self, tried: int) -> bool:
        after = FINALISTS * (self.plan.repeats - 1) + self.plan.repeats - 1 + 2 * self.plan.rounds
        return tried == 0 or (tried < self.plan.trials and self._has_time(1 + after))

    def _has_time(self, measures: int) -> bool:
        """For so many more, by what those so far took."""
        return time.monotonic() + measures * mean(self._took or [0.0]) <= self._until

    def _try(self, settings: Settings, number: int = 0) -> float | None:
        """One tuning load; number: which of them."""
        try:
            found, error = self._served(settings, self.load.seed + number), ""
        except FailedError as failure:
            found, error = None, str(failure)
        value = None if found is None else self.objective.value(found)
        if value is None and settings == self.landscape.space.base:
            why = error or _errors(found)
            raise UserError(f"the default settings fail: {why}", "a load that they answer")
        trial = self.landscape.add(settings, found, error)
        self.keep()
        self.say(self._line(trial, value, number))
        return value

    def _measure(self, settings: Settings, seed: int) -> Measure:
        """A held-out load; one that failed counts as an error in it."""
        try:
            return self._served(settings, seed)
        except FailedError as failure:
            return Measure(seed, (), {str(failure): 1})

    def _served(self, settings: Settings, seed: int) -> Measure:
        begun = time.monotonic()
        with Served(self.command(settings)) as server:
            found = server.measure(self.model, replace(self.load, seed=seed), self._most_seconds())
        self._took.append(time.monotonic() - begun)
        return found

    def _most_seconds(self) -> float:
        left = max(self._until - time.monotonic(), LEAST_SECONDS)
        default = self.landscape.trials.get(self.landscape.space.base)
        if default is None or not default.measures:
            return left
        usual = max(measure.seconds for measure in default.measures)
        return min(left, max(SLOWEST * usual, LEAST_SECONDS))

    def _line(self, trial: Trial, value: float | None, number: int) -> str:
        place = list(self.landscape.trials).index(trial.settings)
        cells = [f"{_plain(one):>{_width(name)}}" for name, one in self._cells(trial.settings)]
        words = "failed: " + (trial.error or _errors(trial.measures[-1]))
        shown = words if value is None else f"{value:10.3f}"
        return f"{place:5} {number + 1:5} {' '.join(cells)} {shown}"

    def header(self) -> str:
        """Names of the columns of the lines that a search says."""
        names = [f"{name:>{_width(name)}}" for name in self.landscape.space.names]
        return f"trial  load {' '.join(names)} {self.objective.name:>10}"

    def _cells(self, settings: Settings) -> Iterable[tuple[str, object]]:
        return zip(self.landscape.space.names, settings, strict=True)

    def _pair(self, number: int, one: Round) -> str:
        default, tuned = self.objective.value(one.default), self.objective.value(one.tuned)
        gain = self.objective.gain(default, tuned)
        cells = [
            _errors(measure) if value is None else f"{value:10.3f}"
            for value, measure in ((default, one.default), (tuned, one.tuned))
        ]
        times = "" if gain is None else f"  {gain:.3f} times better"
        return f"held-out load {number + 1}: default {cells[0]}, tuned {cells[1]}{times}"


def tried(landscape: Landscape, objective: Objective) -> History:
    """Settings with their values, in the order in which they were first measured."""
    return [(one.settings, one.value(objective)) for one in landscape.trials.values()]


def _errors(measure: Measure | None) -> str:
    kinds = {} if measure is None else measure.errors
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "no answer"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _width(name: str) -> int:
    return max(len(name), 6)
