"""`plait tune`: a search for the parameters of `plait serve`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait import __version__
from plait.analysis.workload import Load
from plait.cli.load_flags import FLAGS, GoalEach, GoalFirst, RecordedLoad
from plait.cli.machine import machine
from plait.cli.names import default_model
from plait.cli.options import Panel, takes
from plait.cli.serve import SERVED_ENGINE
from plait.cli.session import fetch
from plait.cli.spelled import flags
from plait.cli.terminal import note
from plait.core.config import EngineConfig
from plait.core.errors import UserError

if TYPE_CHECKING:
    from plait.analysis.tuning.landscape import Landscape
    from plait.analysis.tuning.objective import Objective
    from plait.analysis.tuning.search import Propose
    from plait.analysis.tuning.space import Settings, Space

LOAD = Panel("Load", Load(requests=64, seconds=20.0), FLAGS)
LEAST_ROUNDS = 3
STRETCH = "max_step_stretch"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tune)


@takes(load=LOAD, engine=SERVED_ENGINE)
def tune(
    model: Annotated[str | None, typer.Argument(show_default=False, envvar="PLAIT_MODEL")] = None,
    *,
    load: Load,
    engine: EngineConfig,
    recorded: RecordedLoad = None,
    objective: Annotated[
        str,
        typer.Option(help="goodput, throughput, or p50, p90, p95, p99 of -ttft, -tpot, -latency."),
    ] = "goodput",
    goal_first: GoalFirst = 1.0,
    goal_each: GoalEach = 0.1,
    search: Annotated[
        list[str] | None,
        typer.Option(
            help="Search this parameter, among these values. May be repeated; by default all but the proposer.",
            metavar="NAME[=VALUE,VALUE]",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Settings to try in all.")] = 24,
    repeats: Annotated[
        int, typer.Option(min=1, max=100, help="Loads that decide among the best of them.")
    ] = 3,
    rounds: Annotated[
        int,
        typer.Option(
            min=0, max=20, help="Held-out loads at the end, at least 3; 0 only records more trials."
        ),
    ] = 5,
    minutes: Annotated[
        float, typer.Option(min=0.0, help="Time for all of it; 0 is no limit.")
    ] = 15.0,
    sampler: Annotated[
        str, typer.Option(help="tpe (optuna's), or random to compare it with.")
    ] = "tpe",
    landscape: Annotated[
        Path | None,
        typer.Option(
            help="Start no server: search what this file has, beside chance.", metavar="FILE"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Keep what is measured in this file; go on with what it has."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the settings for serve --config, if they are better.")
    ] = None,
) -> None:
    """Search the parameters of `plait serve` that change how fast it answers and not what.

    plait tune smollm2-135m --rate 6 --objective p99-latency --out tune.json

    plait tune smollm2-135m --load serve.json --write tuned.toml        the load of a bench serve --out

    plait tune --landscape tune.json --objective throughput             only look at what was measured

    Every setting gets a server of its own on this machine and the same load. The best are compared again on
    other loads of that kind, and then the best with the default settings, in turns, on loads that nothing was
    chosen by. Options of the engine hold for all of them. The same command goes on where it was interrupted.
    """
    from plait.analysis.tuning.objective import Objective

    aim = Objective(objective, (goal_first, goal_each))
    if rounds and rounds < LEAST_ROUNDS:
        raise UserError(
            f"{rounds} held-out loads tell nothing", f"at least {LEAST_ROUNDS}, or 0 for none"
        )
    if landscape is not None:
        from plait.cli.tune_report import replay

        if out or write or recorded or load != LOAD.defaults:
            raise UserError("--landscape measures nothing", "no load, --out or --write beside it")
        return replay(landscape, aim, trials)
    if not load.rate and not load.concurrency:
        raise UserError("how much load?", "give --rate or --concurrency, or --load FILE")
    from plait.analysis.tuning.tuner import Plan

    engine = replace(engine, model=model or default_model())
    propose = _sampler(sampler, load.seed, aim)
    land = _begin(engine, load, search or [], out)
    fetch(engine.model, offline=engine.offline)
    plan = Plan(trials, repeats, rounds, 60 * minutes or inf)
    with _ending_servers(out):
        _run(land, engine, load, aim, plan, propose, out)
    if rounds:
        from plait.cli.tune_report import conclude

        conclude(land, engine, aim, out, write)


def _run(
    land: Landscape,
    engine: EngineConfig,
    load: Load,
    aim: Objective,
    plan: Any,
    propose: Propose,
    out: Path | None,
) -> None:
    from plait.analysis.tuning.tuner import Tuner

    def command(settings: Settings) -> list[str]:
        chosen = flags(SERVED_ENGINE, land.space.config(engine, settings))
        return [sys.executable, "-m", "plait", "serve", engine.model, "--port", "0", *chosen]

    tuner = Tuner(
        land,
        load,
        aim,
        plan,
        model=engine.model,
        command=command,
        keep=lambda: land.save(out) if out else None,
        say=lambda line: print(line, flush=True),
    )
    print(f"{engine.model}: {aim.name}, {aim.words}")
    print(tuner.header())
    tuner.search(propose)
    if plan.rounds and (tuned := tuner.finals()):
        tuner.compare(tuned.settings)
    elif plan.rounds:
        land.compare(land.space.base)


def _sampler(name: str, seed: int, aim: Objective) -> Propose:
    from plait.analysis.tuning.search import by_chance, by_estimator

    if name not in ("tpe", "random"):
        raise UserError(f"{name!r} is no sampler", "tpe or random")
    return by_estimator(seed, is_time=aim.is_time) if name == "tpe" else by_chance(seed)


def _begin(engine: EngineConfig, load: Load, search: list[str], out: Path | None) -> Landscape:
    """An empty landscape, or what the file holds of this one. Raises UserError when it is of another."""
    from plait.analysis.tuning.landscape import Landscape, read
    from plait.engine.pace import measured_pace

    paced = measured_pace(engine)[0] is not None
    space = _space(engine, search, paced=paced)
    here = {name: value for name, value in machine().items() if name != "memory_available"}
    setup = {
        "bench": "tune",
        "plait": __version__,
        "model": engine.model,
        "machine": here,
        "engine": {**asdict(engine), "options": dict(engine.options)},
        "is_paced": paced,
        "load": asdict(load),
    }
    land = Landscape(setup, space)
    if out is None:
        return land
    if not out.exists() or not out.stat().st_size:
        land.save(out)  # better refused now than after the first measure
        return land
    found = read(out)
    differs = [name for name in setup if found.setup.get(name) != setup[name]]
    if differs or found.space != space:
        what = ", ".join(differs) or "parameters"
        raise UserError(
            f"{out} was recorded with another setup: {what}",
            "give another file, or the same options as then",
        )
    note(f"{out} has {len(found.trials)} settings")
    return found


def _space(engine: EngineConfig, search: list[str], *, paced: bool) -> Space:
    from plait.analysis.tuning.space import UNASKED, space
    from plait.engine.facts import machine as facts

    advice = f"plait bench step {engine.model}"
    asked = [one.partition("=")[0].strip().replace("-", "_") for one in search]
    if not paced and STRETCH in asked:
        raise UserError(f"{STRETCH} does nothing before a step was measured", advice)
    if not paced and not search:
        note(f"{STRETCH} is not searched: it needs what `{advice}` measures")
        search = [name for name in UNASKED if name != STRETCH]
    return space(engine, search, facts().threads)


@contextmanager
def _ending_servers(out: Path | None) -> Iterator[None]:
    """Let SIGTERM end the child servers too, and say what an interrupt leaves."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        note(
            f"{out} has what was measured; the same command goes on" if out else "nothing was kept"
        )
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
