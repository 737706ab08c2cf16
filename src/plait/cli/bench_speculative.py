"""`plait bench speculative`: what drafting gains on code, copied text, chat and random prompts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait import __version__
from plait.cli.bench_record import Out
from plait.cli.flags import ENGINE
from plait.cli.machine import machine
from plait.cli.names import default_model
from plait.cli.options import takes
from plait.cli.session import fetch
from plait.core.config import EngineConfig
from plait.core.errors import UserError

if TYPE_CHECKING:
    from plait.analysis.speculation import Choice, Gain, Way, Workload
    from plait.analysis.speculation_record import Rounds
    from plait.llm import LLM

HEAD = (
    "prompts    batch proposer     rounds tok/forward drafted/tok speed-up expected  draft  "
    "ms: median    p99  right by place"
)


@takes(engine=ENGINE)
def speculative(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    engine: EngineConfig,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens to generate for each prompt.")] = 128,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Requests at once. May be repeated.", show_default="1"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are shown.")] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A kind of prompts to measure. May be repeated.", show_default="all"),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help='JSON lines with a "prompt" each, plain or .gz: one more kind.'),
    ] = None,
    items: Annotated[int, typer.Option(min=1, help="Of that file, so many, evenly spread.")] = 10,
    sweep: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="A fixed width to measure too, with each proposer, to compare the choice with. May be repeated.",
        ),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0, help="Begin no round that would end later; 0: no limit.")
    ] = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw the speed-ups as SVG.")] = None,
    out: Out = None,
    fresh: Annotated[bool, typer.Option(help="Do not go on with what --out holds.")] = False,
) -> None:
    """Measure drafting beside plain decoding, in turns, in the same engine. End tokens are ignored.

    --proposer says which: lookahead, draft:MODEL, or auto; auto:MODEL compares all three. Code, text to copy, chat
    and the file's prompts are answered greedily; "random" and "trap" are what no proposer can guess, the second so
    that it always seems to know. Every answer is compared with that of plain decoding. The record is written after
    every round, and the same command goes on with it, so that a measurement can be made in pieces (--minutes).
    """
    from plait.analysis import speculation_prompts as kinds

    engine = replace(engine, model=model or default_model())
    if engine.proposer == "none":
        engine = replace(engine, proposer="auto")
    extra = kinds.read(prompts, items) if prompts else {}
    names = kinds.chosen(only, extra)
    for file in (plot, out):
        if file is not None:
            file.touch()  # what cannot be written says so before the runs
    fetch(engine.model, offline=engine.offline)
    from plait.llm import LLM

    ways, sizes = _ways(engine.proposer, sweep or []), sorted(set(batch or [1]))
    with closing(LLM(**asdict(engine))) as llm:
        found = {
            size: kinds.workloads(llm.tokenizer.encode, llm.vocab_size, extra, names, size)
            for size in sizes
        }
        measured = _record(engine, found, ways, tokens, out, fresh=fresh)
        places = _places(found, rounds, measured)
        _measure(llm, places, ways, tokens, measured, 60 * minutes)
    _report(measured, ways, engine.model, plot)


def _ways(proposer: str, widths: Sequence[int]) -> list[Way]:
    """What takes turns with plain decoding; the last is what the engine chooses by itself."""
    from plait.analysis.speculation import Way

    name, _, model = proposer.partition(":")
    names = ["lookahead", *(["draft"] if model else [])] if name == "auto" else [name]
    fixed = [Way(one, width) for one in names for width in sorted(set(widths))]
    return [*fixed, *(Way(one) for one in names), *([Way("auto")] if name == "auto" else [])]


def _record(
    engine: EngineConfig,
    found: dict[int, list[Workload]],
    ways: Sequence[Way],
    tokens: int,
    out: Path | None,
    *,
    fresh: bool,
) -> Rounds:
    from plait.analysis.sources import fingerprint
    from plait.analysis.speculation_record import Rounds

    own = machine()
    fields: dict[str, Any] = {
        "bench": "speculative",
        "plait": __version__,
        "model": engine.model,
        "tokens": tokens,
        "ways": [way.name for way in ways],
        "engine": asdict(engine),
        "code": fingerprint(),
        "processor": [own["processor"], own["isa"], own["threads"]],
        "machine": own,
        "workloads": {
            f"{workload.name}, batch {size}": workload.hash
            for size, workloads in found.items()
            for workload in workloads
        },
    }
    return Rounds(out, fields, fresh=fresh)


Place = tuple["Workload", int, int, int]
"""Workload, batch, group and turn of one round."""


def _places(found: dict[int, list[Workload]], rounds: int, measured: Rounds) -> Iterator[Place]:
    """The rounds that are still to be measured: the first of everything, then the second."""
    for turn in range(rounds):
        for size, workloads in found.items():
            for workload in workloads:
                for group in range(0, len(workload.prompts), size):
                    if not measured.has(workload.name, size, group, turn):
                        yield workload, size, group, turn


def _measure(
    llm: LLM,
    places: Iterator[Place],
    ways: Sequence[Way],
    tokens: int,
    measured: Rounds,
    seconds: float,
) -> None:
    from plait.analysis.speculation import measure

    began, longest = time.monotonic(), 0.0
    for workload, batch, group, turn in places:
        start = time.monotonic()
        if seconds and longest and start + longest > began + seconds:
            print("time is up; the same command goes on from here", flush=True)
            return
        job = partial(
            measure,
            workload=workload,
            ways=ways,
            tokens=tokens,
            batch=batch,
            group=group,
            turn=turn,
        )
        measured.add(llm.worker.call(job).result())
        took = time.monotonic() - start
        longest = max(longest, took)
        print(
            f"round {turn + 1} of {workload.name} {group}, batch {batch}: {took:.0f} s", flush=True
        )


def _report(measured: Rounds, ways: Sequence[Way], model: str, plot: Path | None) -> None:
    from plait.analysis.speculation import choices, gains

    found = gains(measured.runs)
    print(f"{model}, {measured.fields['tokens']} tokens\n{HEAD}")
    for gain in found:
        print(_row(gain))
    if any(way.width for way in ways):
        print("what is chosen, beside the best of all that was measured:")
        for choice in choices(found, ways[-1].name):
            print(_choice(choice, ways[-1].name))
    load = measured.piece()["load_average"]
    print(f"load average {load['before']:.2f} before, {load['after']:.2f} after")
    if plot is not None:
        plot.write_text(_picture(found, ways, model), encoding="utf-8")
    if not all(gain.is_equal for gain in found):
        raise UserError(
            "an answer is not that of plain decoding", "this is a bug: please report it"
        )


def _row(gain: Gain) -> str:
    places = " ".join(f"{share:.0%}" for share in gain.accepted[:8])
    return (
        f"{gain.workload:10} {gain.batch:5} {gain.way:12} {gain.rounds:6} {gain.tokens_per_forward:11.2f} "
        f"{gain.drafted_per_token:11.2f} {gain.speedup:7.2f}x {gain.expected_gain:7.2f}x "
        f"{gain.draft_share:6.1%} {1e3 * gain.draft_median:11.3f} {1e3 * gain.draft_p99:6.2f}  {places}"
    )


def _choice(choice: Choice, automatic: str) -> str:
    return (
        f"{choice.workload:10} batch {choice.batch}: {automatic} {choice.automatic:.2f}x, "
        f"best {choice.best} {choice.speedup:.2f}x: {choice.share:.0%} of it"
    )


def _picture(gains: Sequence[Gain], ways: Sequence[Way], model: str) -> str:
    from plait.analysis.plot import picture

    kinds = list(dict.fromkeys((gain.workload, gain.batch) for gain in gains))
    curves = {
        way.name: [
            (kinds.index((gain.workload, gain.batch)) + 1.0, gain.speedup)
            for gain in gains
            if gain.way == way.name
        ]
        for way in ways
    }
    words = (
        f"{place} {kind}" + (f" x{batch}" if batch > 1 else "")
        for place, (kind, batch) in enumerate(kinds, 1)
    )
    return picture(curves, title=model, x=", ".join(words), y="speed-up over plain decoding")
