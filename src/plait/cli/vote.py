"""`plait vote`: one prompt under several block schedules of a diffusion model, and the answer of most."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from plait.cli.flags import ENGINE, SAMPLING, System, TemplateFile
from plait.cli.names import split
from plait.cli.options import takes
from plait.cli.run import join
from plait.cli.session import Session
from plait.cli.terminal import Answer, note, piped_text
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams

if TYPE_CHECKING:
    from plait.programs.hex import Vote


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(vote)


@takes(sampling=SAMPLING, engine=ENGINE)
def vote(
    first: Annotated[str | None, typer.Argument(metavar="[MODEL]", show_default=False)] = None,
    second: Annotated[str | None, typer.Argument(metavar="[PROMPT]", show_default=False)] = None,
    *,
    sampling: SamplingParams,
    engine: EngineConfig,
    block_size: Annotated[
        list[int], typer.Option(min=1, help="A block length to answer with. May be repeated.")
    ] = [8, 16, 32],  # noqa: B006 - typer takes its default from here
    seeds: Annotated[int, typer.Option(min=1, help="Answers per block length.")] = 1,
    extract: Annotated[
        str, typer.Option(help="What votes: whole, line, number or boxed; the last in a text.")
    ] = "whole",
    system: System = "",
    template: TemplateFile = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text; no chat template.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all runs.")] = False,
) -> None:
    """Ask a diffusion model under several block schedules and print the answer that most runs come to (HEX).

    plait vote MODEL "What is 17 + 25?" --block-size 4 --block-size 16 --seeds 3 --extract number -n 32
    """
    model, prompt = split(first, second)
    text = join(prompt, piped_text())
    if not text:
        raise UserError("there is no prompt", "give one as an argument or through a pipe")
    from plait.programs.extract import EXTRACTS

    if extract not in EXTRACTS:
        raise UserError(f"extract={extract!r} is not known", f"one of: {', '.join(EXTRACTS)}")
    session = Session(replace(engine, model=model), template)
    ids = session.encoded(session.ask(text, system=system, raw=raw))
    from plait.programs import hex as program  # loads the model's parts

    found = program.vote(
        session.llm,
        ids,
        sampling,
        block_sizes=block_size,
        seeds=seeds,
        extract=EXTRACTS[extract],
    )
    _print(found, as_json=as_json)


def _print(found: Vote, *, as_json: bool) -> None:
    if as_json:
        runs = [run._asdict() for run in found.runs]
        print(json.dumps(found._asdict() | {"runs": runs}))
        return
    shown = Answer()
    shown.write(found.text)
    shown.close()
    for answer, count in found.votes.items():
        sizes = sorted({run.block_size for run in found.runs if run.answer == answer})
        told = answer if len(answer) <= 60 else f"{answer[:60]}..."
        note(f"{count} of {len(found.runs)}, blocks of {', '.join(map(str, sizes))}: {told!r}")
