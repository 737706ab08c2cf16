"""`plait serve`: a model behind OpenAI's API."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plait.cli.flags import ENGINE
from plait.cli.names import default_model
from plait.cli.options import Flag, Panel, size, takes
from plait.cli.session import Session, fetch
from plait.cli.settings_file import ConfigFile
from plait.cli.terminal import note
from plait.core.config import EngineConfig
from plait.server.settings import ServerConfig

if TYPE_CHECKING:
    from plait.server.state import Served

SERVER = Panel(
    "Server",
    ServerConfig(),
    {
        "host": Flag("Address to listen on; 0.0.0.0 lets other machines in."),
        "port": Flag("0 is one that is free."),
        "served_names": Flag(
            "What clients may call the model. May be repeated.",
            ("--served-name",),
            kind=list[str],
            read=tuple,
        ),
        "api_keys": Flag(
            "Let only those in who send this key. May be repeated.",
            ("--api-key",),
            kind=list[str],
            read=tuple,
        ),
        "api_key_file": Flag("File with a key per line."),
        "isolate_prefix_cache": Flag(
            "Share cached prefixes among the requests of one key only: who finds one learns what others asked.",
            ("--isolate-prefix-cache/--no-isolate-prefix-cache",),
        ),
        "cors_origins": Flag(
            "Web pages of this origin may ask; * is all. May be repeated.",
            ("--cors-origin",),
            kind=list[str],
            read=tuple,
        ),
        "max_body_bytes": Flag(
            "Size of the largest request.", kind=int, parser=size, metavar="SIZE"
        ),
        "body_seconds": Flag("Time that a request may take to arrive."),
        "max_concurrent_requests": Flag("Requests worked on at once; more are refused."),
        "max_choices": Flag("Prompts times n of one request."),
        "grace_seconds": Flag("Time that running requests get after SIGTERM."),
        "ping_seconds": Flag("Silence on a stream after which a comment is sent; 0 sends none."),
        "log_format": Flag("text or json."),
        "log_requests": Flag(
            "Also write a line of JSON per request to --request-log: as many bytes at most, the older ones in "
            "FILE.1. Says key (as a hash), path, status, seconds and tokens; 0 writes none.",
            kind=int,
            parser=size,
            metavar="SIZE",
        ),
        "request_log": Flag("File for --log-requests.", metavar="FILE"),
        "log_prompts": Flag(
            "With --log-requests: write down what was asked, too.",
            ("--log-prompts/--no-log-prompts",),
        ),
    },
    variables="PLAIT_",
)
SERVED_ENGINE = replace(ENGINE, variables="PLAIT_")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


@takes(server=SERVER, engine=SERVED_ENGINE)
def serve(
    model: Annotated[str | None, typer.Argument(show_default=False, envvar="PLAIT_MODEL")] = None,
    *,
    server: ServerConfig,
    engine: EngineConfig,
    template: Annotated[
        Path | None,
        typer.Option(
            "--chat-template",
            help="Jinja file instead of the model's own.",
            envvar="PLAIT_CHAT_TEMPLATE",
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Answer over HTTP, as OpenAI's API does: plait serve smollm2-135m --port 8000

    A flag wins over its environment variable, and that over the file of --config.
    """
    engine = replace(engine, model=model or default_model())
    server.all_keys()  # a bad file of keys is found before anything is loaded
    fetch(engine.model, offline=engine.offline)
    from plait.server import lifecycle

    listener = lifecycle.listen(server)
    url = lifecycle.url_of(listener)
    note(f"listening on {url}, loading {engine.model}")
    lifecycle.serve(
        server,
        listener,
        lambda: _open(engine, server, template),
        lambda served: _announce(served, url, needs_key=bool(server.all_keys())),
    )


def _open(engine: EngineConfig, server: ServerConfig, template: Path | None) -> Served:
    from plait.server.state import Served

    session = Session(engine, template)
    llm = session.llm
    return Served(
        names=server.served_names or (engine.model,),
        worker=llm.worker,
        tokenizer=llm.tokenizer,
        traits=llm.traits,
        words=llm.words,
        close=llm.close,
        template=session.template,
    )


def _announce(served: Served, url: str, *, needs_key: bool) -> None:
    """Say what was decided, where the server is, and how to ask it."""
    for line in served.words:
        note(line)
    body = {"model": served.names[0], "messages": [{"role": "user", "content": "Hello"}]}
    key = ' -H "Authorization: Bearer $PLAIT_API_KEYS"' if needs_key else ""
    note(f"ready at {url}")
    note(
        f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' "
        f"-d '{json.dumps(body)}'"
    )
