"""`plait bench diffusion`: accuracy against parallelism, over decoders, thresholds, blocks and caches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from plait.cli.bench_record import Out, Record
from plait.cli.flags import ENGINE
from plait.cli.options import takes
from plait.cli.session import Session
from plait.cli.terminal import note
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams

if TYPE_CHECKING:
    from plait.programs.sweep import Cost, Task, Way

STRENGTHS = ("threshold", "factor", "steps", "bound")
"""Options that trade accuracy for tokens per forward: the points of one curve differ by them."""
VALUES: dict[str, list[str]] = {
    "threshold": ["0.5", "0.7", "0.8", "0.9", "0.95", "0.99"],
    "factor": ["0.5", "1", "2", "4"],
    "steps": ["1", "2", "4", "8", "16"],
    "bound": ["0.05", "0.2", "0.5", "1"],
}
"""What is tried of those that are not given."""
ROW = "{:{width}}{:7.1%} [{:5.1%}, {:6.1%}]{:7.2f}{:8.1f}{:8.3f}{:9.1f}{:8.1f}{:8.1f}{:8.1f}"
HEAD = "{:{width}}{:>7} {:>16}{:>7}{:>8}{:>8}{:>9}{:>8}{:>8}{:>8}"


class Asked(NamedTuple):
    """What every way is measured with; rounds: how often."""

    items: Sequence[Task]
    sampling: SamplingParams
    batch: int
    rounds: int


@takes(engine=ENGINE)
def diffusion(
    model: Annotated[str, typer.Argument(show_default=False)],
    task: Annotated[Path, typer.Argument(help="JSON lines: prompt, answer, max_tokens, grader.")],
    *,
    engine: EngineConfig,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", help="A decoder to measure. May be repeated.", show_default="threshold"
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="Values of an option, e.g. threshold=0.5,0.9 block_size=4,32 reuse=none,dual. May be repeated.",
        ),
    ] = None,
    items: Annotated[int, typer.Option(min=0, help="The first so many; 0 is all.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Requests that run together.")] = 1,
    rounds: Annotated[
        int, typer.Option(min=1, help="Measurements of every way; the one of median time counts.")
    ] = 1,
    lost: Annotated[
        float,
        typer.Option(
            min=0, max=100, help="Points of accuracy that count as equal to the baseline's."
        ),
    ] = 1.0,
    temperature: Annotated[float, typer.Option("-t", "--temperature", min=0)] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the first item; the next has one more.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves as SVG.")] = None,
    out: Out = None,
) -> None:
    """Sweep the ways to decode a diffusion model over a task with answers that can be checked.

    Accuracy with its 95% interval (Wilson); TPF: tokens per forward of a request, its prompt and refreshes included;
    NFE: forwards per request; efficiency: tokens per position that was fed; tokens a second; percentiles of the
    time of a request; and for every curve the area below it, weighted by accuracy, and its speed at equal accuracy:
    tokens a second of its fastest setting that is right about as often as one token at a time, over those of each
    baseline. Baselines are the same weights one token at a time, also in a causal mode, plain and with drafts, if they
    have one. Every combination of what is varied is measured, with each decoder that has the option.
    """
    record = Record("diffusion", model, out)
    if plot is not None:
        plot.touch()
    from plait.analysis import tasks
    from plait.analysis.equal import at_equal_accuracy

    found = tasks.read(task, items)
    sampling = SamplingParams(temperature=temperature, seed=seed)
    engine = replace(engine, model=model)
    session = Session(replace(engine, proposer="none"))  # drafts are for the causal mode
    with closing(session.llm):
        if not session.has_canvas:
            raise UserError(
                f"{model} writes from left to right here, so there is nothing to sweep",
                "a diffusion model; --planner block or canvas, if the model has several modes",
            )
        planned = _plan(session, sweep or ["threshold"], vary or [])
        asked = Asked(found, sampling, batch, rounds)
        rows = [_measure(session, asked, way) for way in planned]
    rows = _causal(engine, asked) + rows
    areas, equal = _areas(rows), at_equal_accuracy(rows, lost / 100)
    _print(rows, areas, f"{model}, {len(found)} items of {task.name}, {batch} at a time")
    _print_equal(equal)
    if plot is not None:
        plot.write_text(_picture(rows, f"{model}, {task.name}"), encoding="utf-8")
    settings = {"temperature": temperature, "seed": seed, "batch": batch, "items": len(found)}
    results = {"rounds": rounds, "points": rows, "areas": areas, "equal_accuracy": equal}
    record.close(task=task.name, **settings, **results, engine=asdict(engine))


def _plan(session: Session, decoders: Sequence[str], vary: Sequence[str]) -> list[Way]:
    from plait.programs import sweep

    given = _given(vary)
    axes = {decoder: _axes(session, decoder, given) for decoder in decoders}
    for name in given:
        if not any(name in own for own in axes.values()):
            raise UserError(
                f"{name} is no option of this planner or of {', '.join(decoders)}", "leave it out"
            )
    planned = sweep.ways(decoders, axes)
    for way in planned:  # before hours are spent on those before it
        session.llm.worker.engine.prepare([0], SamplingParams(max_tokens=1), **way.choices)
    masked = [way for way in sweep.MASKED if sweep.is_possible(session.llm, way)]
    return [*masked, *planned]


def _causal(engine: EngineConfig, asked: Asked) -> list[dict[str, Any]]:
    """The same weights from left to right with the model that they are in another mode, if they have it."""
    from plait.programs import sweep

    rows: list[dict[str, Any]] = []
    if any(item.infill for item in asked.items):
        note("nothing is measured from left to right: a causal model fills nothing in")
        return rows
    for way in sweep.CAUSAL:
        drafts = engine.proposer if way.planner == "speculative" else "none"
        own = replace(engine, planner=way.planner, decoder="auto", options={}, proposer=drafts)
        try:
            session = Session(own)
        except UserError as error:
            note(
                f"{way.label}: not measured, {error.message}"
            )  # not made for it, or no such planner
            continue
        with closing(session.llm):
            rows.append(_measure(session, asked, way))
    return rows


def _axes(session: Session, decoder: str, given: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Option -> values, of those that the decoder and the model's own planner have. The trade-off comes last."""
    from dataclasses import fields

    from plait.engine.parts import kinds

    planner = session.llm.worker.engine.own_planner.name
    known = [field.name for kind in kinds(planner, decoder).values() for field in fields(kind)]
    strengths = {name: VALUES[name] for name in STRENGTHS if name in known and name not in given}
    own = {name: values for name, values in given.items() if name in known}
    chosen = own | strengths
    return dict(sorted(chosen.items(), key=lambda item: item[0] in STRENGTHS))


def _given(vary: Sequence[str]) -> dict[str, list[str]]:
    from plait.cli.options import pairs

    return {name: values.split(",") for name, values in pairs(list(vary)).items()}


def _measure(session: Session, asked: Asked, way: Way) -> dict[str, Any]:
    from plait.programs import sweep

    costs = [
        sweep.measure(session.llm, asked.items, way, asked.sampling, batch=asked.batch)
        for _ in range(asked.rounds)
    ]
    cost = sorted(costs, key=lambda each: each.seconds)[len(costs) // 2]
    row = _row(way, cost)
    note(f"{row['label']}: {row['accuracy']:.1%}, {row['tokens_per_forward']:.2f} a forward")
    return row


def _row(way: Way, cost: Cost) -> dict[str, Any]:
    from plait.analysis.curve import percentile, wilson

    options = dict(way.options)
    curve = " ".join((way.decoder, *(f"{k}={v}" for k, v in options.items() if k not in STRENGTHS)))
    return {
        "label": way.label,
        "curve": None if way.is_baseline else curve,
        "planner": way.planner,
        "decoder": way.decoder,
        "options": options,
        "solved": cost.solved,
        "total": cost.total,
        "accuracy": cost.solved / cost.total,
        "interval": wilson(cost.solved, cost.total),
        "tokens_per_forward": cost.tokens / cost.forwards,
        "forwards_per_request": cost.forwards / cost.total,
        "position_efficiency": cost.tokens / cost.positions,
        "tokens_per_second": cost.tokens / cost.seconds,
        "latency": {f"p{p}": percentile(cost.latencies, p) for p in (50, 95, 99)},
    }


def _curves(rows: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Name -> points (tokens per forward, accuracy); a baseline is a point of its own."""
    found = defaultdict(list)
    for row in rows:
        found[row["curve"] or row["label"]].append((row["tokens_per_forward"], row["accuracy"]))
    return dict(found)


def _areas(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    from plait.analysis.curve import area

    best = max(row["accuracy"] for row in rows)
    return {name: area(curve, best) for name, curve in _curves(rows).items()}


def _print(rows: Sequence[dict[str, Any]], areas: Mapping[str, float], title: str) -> None:
    print(title)
    names = ("accuracy", "95%", "TPF", "NFE", "effic.", "tok/s", "p50 ms", "p95 ms", "p99 ms")
    width = 4 + max(len(row["label"]) for row in rows)
    print(HEAD.format("", *names, width=width))
    for row in rows:
        latency = [1e3 * seconds for seconds in row["latency"].values()]
        print(
            ROW.format(
                ("* " if row["curve"] is None else "  ") + row["label"],
                row["accuracy"],
                *row["interval"],
                row["tokens_per_forward"],
                row["forwards_per_request"],
                row["position_efficiency"],
                row["tokens_per_second"],
                *latency,
                width=width,
            )
        )
    print("* one token at a time; area below accuracy over tokens per forward:")
    for name, value in sorted(areas.items(), key=lambda item: -item[1]):
        print(f"{value:8.3f}  {name}")


def _print_equal(equal: Mapping[str, Any]) -> None:
    """Below the table: the fastest point of every curve that is right often enough."""
    points = f"{100 * equal['lost']:g} points"
    print(f"fastest within {points} of {equal['reference']}, tokens a second over the baselines':")
    for name, row in equal["curves"].items():
        if row is None:
            print(f"  {name}: no setting is right that often")
            continue
        over = ", ".join(f"{times:.2f} x {label}" for label, times in row["over"].items())
        rate = f"{row['accuracy']:.1%}, {row['tokens_per_forward']:.2f} a forward"
        print(f"  {row['label']}: {rate}, {over}")


def _picture(rows: Sequence[dict[str, Any]], title: str) -> str:
    from plait.analysis.plot import picture

    return picture(_curves(rows), title=title, x="tokens per forward", y="accuracy")
