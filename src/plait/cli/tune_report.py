"""What `plait tune` says at its end: the verdict, or what a recorded landscape shows."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from plait.analysis.tuning.landscape import Landscape, Trial, read
from plait.analysis.tuning.objective import Objective
from plait.analysis.tuning.search import Propose, by_chance, by_estimator, search
from plait.analysis.tuning.space import Settings
from plait.analysis.tuning.tuner import tried
from plait.analysis.tuning.verdict import Verdict, verdict
from plait.cli.serve import SERVED_ENGINE
from plait.cli.spelled import flags, settings_file
from plait.cli.terminal import note
from plait.core.config import EngineConfig
from plait.core.errors import UserError

SEEDS = range(5)
"""Of the searches that are compared with chance."""


def conclude(
    land: Landscape, engine: EngineConfig, aim: Objective, out: Path | None, write: Path | None
) -> None:
    """Print the verdict with the flags to use, put it into the record and write the settings file."""
    base = land.space.base
    _warn(land.trials[base], aim)
    tuned = base if land.tuned is None else land.tuned
    config = land.space.config(engine, tuned)
    command = shlex.join(["plait", "serve", engine.model, *flags(SERVED_ENGINE, config)])
    found = verdict(land.rounds, aim)
    for line in _words(found, is_default=tuned == base):
        print(line)
    if found.is_better:
        print(command)
    land.found = {
        "objective": aim.name,
        "goal": aim.goal,
        "command": command,
        **asdict(found),
        "is_better": found.is_better,
    }
    if out is not None:
        land.save(out)
    if write is not None:
        _write(write, found, config)


def _warn(default: Trial, aim: Objective) -> None:
    if aim.name == "goodput" and default.measures:
        count = len(default.measures[0].answers)
        answered_all = aim.value(default.measures[0]) == count / default.measures[0].seconds
        if count and answered_all:
            note(
                "every answer of the default settings was within the goal: "
                "a higher --rate, or a tighter goal, tells settings apart"
            )


def _words(found: Verdict, *, is_default: bool) -> list[str]:
    if is_default:
        return ["nothing beats the default settings on the tuning loads: keep them"]
    count = len(found.gains)
    if count < 2:
        return [f"{count} held-out loads say nothing: keep the defaults, or give it more --minutes"]
    line = (
        f"on {count} held-out loads the tuned settings are {found.gain:.3f} times the default ones "
        f"(95% interval {found.low:.3f} to {found.high:.3f}; {min(found.gains):.3f} to {max(found.gains):.3f})"
    )
    if found.failures:
        return [line, f"but {found.failures} of them were not answered in full: keep the defaults"]
    if not found.is_better:
        return [line, "that is no improvement that can be relied on: keep the defaults"]
    return [line]


def _write(path: Path, found: Verdict, config: EngineConfig) -> None:
    if not found.is_better:
        note(f"{path} is not written: there is nothing better than the defaults")
        return
    head = f"# plait serve {config.model} --config {path.name}\n"
    path.write_text(head + settings_file(SERVED_ENGINE, config), encoding="utf-8")
    note(f"{path} is for plait serve --config")


def replay(path: Path, aim: Objective, trials: int) -> None:
    """Search a recorded landscape, with several seeds, and print how much better than chance that is."""
    land = read(path)
    history = tried(land, aim)
    values = {settings: value for settings, value in history if value is not None}
    if land.space.base not in values or len(values) < 4:
        raise UserError(
            f"{path} has too few settings to search", "more trials, the default among them"
        )
    if trials > (most := len(history) // 2):
        note(f"{trials} of {len(history)} settings is hardly a search: {most} trials")
        trials = most
    best = land.best(aim)[0]
    print(f"{path}: {len(history)} settings, {aim.name}, {aim.words}")
    print(f"default  {values[land.space.base]:10.3f}")
    words = " ".join(f"{name}={one}" for name, one in land.space.named(best.settings).items())
    print(f"best     {values[best.settings]:10.3f}  {words}")
    _compare(land, aim, dict(history), trials)
    if land.rounds and (found := verdict(land.rounds, aim)).gains:
        print("\n".join(_words(found, is_default=land.tuned == land.space.base)))


def _compare(
    land: Landscape, aim: Objective, values: dict[Settings, float | None], trials: int
) -> None:
    pick = min if aim.is_time else max

    def best(propose: Propose) -> float:
        look: Callable[[Settings], float | None] = values.__getitem__
        found = search(land.space, values, [], propose, look, lambda done: done < trials)
        return pick(value for _, value in found if value is not None)

    print(f"best of {trials} trials; seed, searched, by chance")
    wins = 0
    for seed in SEEDS:
        searched = best(by_estimator(seed, is_time=aim.is_time))
        chance = best(by_chance(seed))
        wins += pick(searched, chance) == searched
        print(f"{seed:4} {searched:10.3f} {chance:10.3f}")
    print(f"the search is as good as chance or better with {wins} of {len(SEEDS)} seeds")
