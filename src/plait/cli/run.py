"""`plait run`: one prompt, one answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from plait.cli.flags import ENGINE, SAMPLING, System, TemplateFile
from plait.cli.names import split
from plait.cli.options import takes
from plait.cli.session import Session
from plait.cli.stats import drafting, footer, timings
from plait.cli.terminal import Answer, is_interactive, note, piped_text
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams


@dataclass(frozen=True, slots=True)
class Style:
    """What is printed. raw: no chat template. as_json: the record instead of the text."""

    raw: bool = False
    as_json: bool = False
    stats: bool = False


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)


@takes(sampling=SAMPLING, engine=ENGINE)
def run(
    first: Annotated[str | None, typer.Argument(metavar="[MODEL]", show_default=False)] = None,
    second: Annotated[str | None, typer.Argument(metavar="[PROMPT]", show_default=False)] = None,
    *,
    sampling: SamplingParams,
    engine: EngineConfig,
    system: System = "",
    template: TemplateFile = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text; no chat template.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the full record.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Say on stderr how fast it was.")] = False,
) -> None:
    """Answer a prompt. Text from a pipe is put after it; only the answer goes to stdout.

    MODEL is a short name (`plait ls --all`), a file or folder, or hf:owner/name; without one it is
    PLAIT_MODEL or smollm2-135m. Without a prompt, at a terminal, this is `plait chat`.
    """
    model, prompt = split(first, second)
    engine = replace(engine, model=model)
    style = Style(raw=raw, as_json=as_json, stats=stats)
    _check(sampling, style)
    text = join(prompt, piped_text())
    if text:
        answer(Session(engine, template), text, sampling, system=system, style=style)
    elif is_interactive() and prompt is None and not (raw or as_json):
        from plait.cli.chat import talk

        talk(Session(engine, template), sampling, system=system, stats=stats)
    else:
        raise UserError("there is no prompt", "give one as an argument or through a pipe")


def join(prompt: str | None, piped: str | None) -> str:
    """The prompt of the command line, an empty line, then what was piped in."""
    return "\n\n".join(part for part in (prompt, (piped or "").rstrip("\n")) if part)


def _check(sampling: SamplingParams, style: Style) -> None:
    asked = sampling.logprobs is not None or sampling.prompt_logprobs is not None
    if asked and not style.as_json:
        raise UserError("log-probabilities are part of the record", "add --json")


def answer(
    session: Session, text: str, sampling: SamplingParams, *, system: str, style: Style
) -> None:
    """Print the answer (or the record) to stdout, the rest to stderr."""
    if style.stats:
        for line in session.words:
            note(line)
    prompt = session.ask(text, system=system, raw=style.raw)
    if style.as_json:
        output = session.generate(prompt, sampling)
        print(json.dumps(output.record() | {"timings": timings(output)}))
    elif sampling.n > 1:
        for one in session.generate(prompt, sampling).outputs:
            _print(iter([one.text]))
    else:
        _print(session.stream(prompt, sampling))
    if style.stats and session.output is not None:
        note(footer(session.output))
        for line in drafting(session.output):
            note(line)


def _print(pieces: Iterator[str]) -> None:
    shown = Answer()
    try:
        for piece in pieces:
            shown.write(piece)
    finally:
        shown.close()
