"""`plait chat`: talk with a model at the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from plait.cli.conversation import Conversation
from plait.cli.flags import ENGINE, SAMPLING, System, TemplateFile
from plait.cli.names import default_model
from plait.cli.options import takes
from plait.cli.repl import Repl, history
from plait.cli.session import Session
from plait.cli.terminal import note
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chat)


@takes(sampling=SAMPLING, engine=ENGINE)
def chat(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    sampling: SamplingParams,
    engine: EngineConfig,
    system: System = "",
    template: TemplateFile = None,
    stats: Annotated[bool, typer.Option("--stats", help="Say how fast each answer was.")] = False,
) -> None:
    """Talk with a model. /? lists the commands, Ctrl-C stops an answer, Ctrl-D ends."""
    session = Session(replace(engine, model=model or default_model()), template)
    talk(session, sampling, system=system, stats=stats)


def talk(session: Session, sampling: SamplingParams, *, system: str, stats: bool) -> None:
    """The conversation itself. Raises UserError for a model that only continues text."""
    if not session.has_template:
        raise UserError(
            f"{session.name} has no chat template: it continues text and does not answer",
            f"plait run {session.name} 'Once upon a time'",
        )
    if sampling.n > 1 or sampling.logprobs is not None or sampling.prompt_logprobs is not None:
        raise UserError("a conversation has one answer at a time, as text", "see plait run --json")
    with history():
        note(f"{session.name}: /? lists the commands, Ctrl-D ends")
        Repl(session, Conversation(sampling, system), stats=stats).loop()
