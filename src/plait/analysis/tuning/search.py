"""Which settings to try next: optuna's TPE sampler, or chance to compare it with.

What is proposed follows from what was measured and the seed alone, so that a search goes on where it stopped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from plait.analysis.tuning.space import Settings, Space
from plait.core.errors import UserError

RANDOM_FIRST = 8
"""Trials before the sampler has something to learn from."""

History = list[tuple[Settings, float | None]]
"""Settings that were tried with their value, None for those that failed."""


class Propose(Protocol):
    """Says what to try after a history."""

    def __call__(self, space: Space, history: History, open_points: list[Settings]) -> Settings: ...


def by_chance(seed: int) -> Propose:
    """Any of the settings that are left."""

    def propose(space: Space, history: History, open_points: list[Settings]) -> Settings:
        return random.Random(f"{seed} {len(history)}").choice(open_points)

    return propose


def by_estimator(seed: int, *, is_time: bool) -> Propose:
    """By a tree-structured Parzen estimator (Bergstra et al. 2011) over the places of the values.

    is_time: whether less is better. Raises UserError where optuna is not installed.
    """
    optuna = _library()

    def propose(space: Space, history: History, open_points: list[Settings]) -> Settings:
        if len(history) < RANDOM_FIRST:
            return by_chance(seed)(space, history, open_points)
        ranges = {
            name: optuna.distributions.IntDistribution(0, len(row) - 1)
            for name, row in zip(space.names, space.values, strict=True)
        }
        sampler = optuna.samplers.TPESampler(
            seed=seed * 100_003 + len(history), n_startup_trials=0, multivariate=True
        )
        study = optuna.create_study(
            sampler=sampler, direction="minimize" if is_time else "maximize"
        )
        study.add_trials([_told(optuna, space, ranges, *one) for one in history])
        places = study.ask(ranges).params
        return tuple(row[places[name]] for name, row in zip(space.names, space.values, strict=True))

    return propose


def _told(
    optuna: Any, space: Space, ranges: dict[str, Any], settings: Settings, value: float | None
) -> Any:
    """One of the history, as optuna keeps them; what failed counts as worse than all others."""
    states = optuna.trial.TrialState
    return optuna.trial.create_trial(
        state=states.PRUNED if value is None else states.COMPLETE,
        value=value,
        params=dict(zip(space.names, space.places(settings), strict=True)),
        distributions=ranges,
    )


def _library() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UserError(
            "the search needs the optuna package, which is not installed",
            "pip install 'plait[tune]', or --sampler random",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def search(
    space: Space,
    candidates: Iterable[Settings],
    history: History,
    propose: Propose,
    measure: Callable[[Settings], float | None],
    goes_on: Callable[[int], bool],
) -> History:
    """Try settings as long as some are left and `goes_on(number of those tried)`; the default comes first.

    candidates: those that can be measured; of a proposal that is none of them, or was tried, the nearest is
    taken. history: what was tried before. Returns it with what was added.
    """
    history = list(history)
    tried = {settings for settings, _ in history}
    left = [one for one in candidates if one not in tried]
    while left and goes_on(len(history)):
        wanted = propose(space, history, left) if history else space.base
        chosen = min(left, key=lambda one: space.distance(one, wanted))
        left.remove(chosen)
        history.append((chosen, measure(chosen)))
    return history
