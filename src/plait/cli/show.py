"""`plait show`: what a model is, and what this machine offers."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait.cli.machine import machine
from plait.cli.names import default_model
from plait.cli.session import fetch
from plait.cli.terminal import shown
from plait.core.errors import UserError

if TYPE_CHECKING:
    from plait.engine.facts import ModelFacts


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    hardware: Annotated[bool, typer.Option("--hardware", help="This machine instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
) -> None:
    """Describe a model (architecture, formats, context, memory) or, with --hardware, this machine."""
    if hardware and model is not None:
        raise UserError("--hardware is about this machine, not a model", "give one of the two")
    if hardware:
        record = machine()
        lines = _machine_lines(record)
    else:
        path = fetch(model or default_model(), offline=offline)
        from plait.engine import facts

        described = facts.model_facts(path)
        record = asdict(described) | {"path": str(path)}
        lines = [*_model_lines(described), ("file", str(path))]
    if as_json:
        print(json.dumps(record, indent=2))
        return
    for label, text in lines:
        print(f"{label:<14} {text}")


def _machine_lines(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("processor", f"{record['processor']} ({record['architecture']})"),
        ("cores", f"{record['cores']} allowed, {record['threads']} threads by default"),
        ("kernel tables", f"{', '.join(record['isas'])}; in use: {record['isa']}"),
        ("memory", f"{_bytes(record['memory'])}, {_bytes(record['memory_available'])} available"),
        ("system", record["system"]),
    ]


def _model_lines(facts: ModelFacts) -> list[tuple[str, str]]:
    window = f", sliding window {facts.sliding_window:,}" if facts.sliding_window else ""
    heads = f"{facts.heads} heads, {facts.kv_heads} for keys and values, of {facts.head_dim}"
    per_token = ", ".join(f"{size:,} ({kind})" for kind, size in facts.kv_bytes_per_token.items())
    shares = [
        (name, f"{share.tensors} tensors, {share.parameters:,} weights, {_bytes(share.bytes)}")
        for name, share in facts.formats.items()
    ]
    experts = [
        ("experts", f"{facts.experts} a layer, of which a token meets {facts.experts_per_token}")
    ]
    return [
        ("model", f"{shown(facts.name)} ({facts.kind})"),
        ("architecture", f"{facts.architecture}, {facts.layers} layers of {facts.width}; {heads}"),
        *(experts if facts.experts else ()),
        ("parameters", f"{facts.parameters:,} in {_bytes(facts.file_bytes)}"),
        ("context", f"{facts.context_length:,} tokens{window}"),
        ("vocabulary", f"{facts.vocab_size:,} tokens"),
        ("KV cache", f"bytes per token of context: {per_token}"),
        ("chat template", "yes" if facts.has_chat_template else "no: it continues text"),
        *shares,
    ]


def _bytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
