"""Options come from the dataclasses that own the defaults."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from plait.cli.flags import ENGINE, SAMPLING
from plait.cli.options import Flag, Panel, biases, pairs, size, structure, takes
from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs


def parse(panel: Panel, *arguments: str) -> Any:
    """What a command that takes this panel is called with."""
    seen: list[Any] = []
    app = typer.Typer()

    @app.command()
    @takes(made=panel)
    def command(made: Any) -> None:
        seen.append(made)

    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen[0]


def test_every_field_is_an_option() -> None:
    assert set(SAMPLING.flags) == {field.name for field in fields(SamplingParams)}
    # The model is a positional argument of every command.
    assert set(ENGINE.flags) == {field.name for field in fields(EngineConfig)} - {"model"}


@pytest.mark.parametrize("panel", [SAMPLING, ENGINE], ids=["sampling", "engine"])
def test_no_option_given_means_the_defaults(panel: Panel) -> None:
    made = parse(panel)
    assert made == panel.defaults or made.__class__ is panel.defaults.__class__
    for name in panel.flags:
        assert list_to_tuple(getattr(made, name)) == list_to_tuple(getattr(panel.defaults, name))


def list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["-n", "7"], "max_tokens", 7),
        (["--max-tokens", "7"], "max_tokens", 7),
        (["-t", "0"], "temperature", 0.0),
        (["--top-k", "40"], "top_k", 40),
        (["--infill", "4:9", "--infill", "12:13"], "infill", ((4, 9), (12, 13))),
        (["--top-p", "0.5"], "top_p", 0.5),
        (["--min-p", "0.1"], "min_p", 0.1),
        (["--typical-p", "0.9"], "typical_p", 0.9),
        (["--repetition-penalty", "1.1"], "repetition_penalty", 1.1),
        (["--presence-penalty", "0.5"], "presence_penalty", 0.5),
        (["--frequency-penalty", "-0.5"], "frequency_penalty", -0.5),
        (["--logit-bias", "42=-100", "--logit-bias", "7=1.5"], "logit_bias", {42: -100.0, 7: 1.5}),
        (["--seed", "-3"], "seed", -3),
        (["--stop", "a b", "--stop", "c"], "stop", ("a b", "c")),
        (["--stop-token-id", "5", "--stop-token-id", "6"], "stop_token_ids", (5, 6)),
        (["--include-stop"], "include_stop_str_in_output", True),
        (["--min-tokens", "2"], "min_tokens", 2),
        (["--ignore-eos"], "ignore_eos", True),
        (["--keep-special"], "skip_special_tokens", False),
        (["--samples", "3"], "n", 3),
        (["--logprobs", "0"], "logprobs", 0),
        (["--prompt-logprobs", "2"], "prompt_logprobs", 2),
    ],
)
def test_a_sampling_option_sets_its_field_alone(
    arguments: list[str], field: str, value: Any
) -> None:
    made = parse(SAMPLING, *arguments)
    assert getattr(made, field) == value
    others = set(SAMPLING.flags) - {field}
    assert {
        name for name in others if getattr(made, name) != getattr(SAMPLING.defaults, name)
    } == set()


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--planner", "block"], "planner", "block"),
        (["--decoder", "threshold"], "decoder", "threshold"),
        (["--cache", "none"], "cache", "none"),
        (["-o", "threshold=0.8", "-o", "a = b=c"], "options", {"threshold": "0.8", "a": "b=c"}),
        (["--threads", "2"], "threads", 2),
        (["--activations", "f32"], "activations", "f32"),
        (["--executor", "reference"], "executor", "reference"),
        (["--kv", "f32"], "kv", "f32"),
        (["--ctx", "32K"], "max_model_len", 32768),
        (["--kv-memory", "1.5G"], "kv_memory", 3 << 29),
        (["--max-num-batched-tokens", "64"], "max_num_batched_tokens", 64),
        (["--max-num-seqs", "4"], "max_num_seqs", 4),
        (["--max-step-stretch", "2.5"], "max_step_stretch", 2.5),
        (["--max-queued-requests", "9"], "max_queued_requests", 9),
        (["--max-queued-tokens", "9"], "max_queued_tokens", 9),
        (["--max-request-tokens", "9"], "max_request_tokens", 9),
        (["--max-request-seconds", "1.5"], "max_request_seconds", 1.5),
        (["--max-request-kv", "9"], "max_request_kv", 9),
        (["--isa", "generic"], "isa", "generic"),
        (["--offline"], "offline", True),
    ],
)
def test_an_engine_option_sets_its_field(arguments: list[str], field: str, value: Any) -> None:
    assert getattr(parse(ENGINE, *arguments), field) == value


def test_a_refused_value_names_its_field() -> None:
    with pytest.raises(UserError, match="top_p"):
        parse(SAMPLING, "--top-p", "0")
    with pytest.raises(UserError, match="activations"):
        parse(ENGINE, "--activations", "int4")


def test_an_unknown_field_in_the_table_is_noticed() -> None:
    with pytest.raises((AttributeError, KeyError)):
        takes(made=Panel("x", EngineConfig(), {"no_such_field": Flag("?")}))(lambda made: None)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("4096", 4096), ("4k", 4096), ("32K", 32768), ("1.5M", 3 << 19), (" 2G ", 2 << 30)],
)
def test_sizes(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize("text", ["", "K", "4T", "four", "1e999", "nan", "--"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a size"):
        size(text)


@pytest.mark.parametrize("item", ["threshold", "=1", ""])
def test_what_is_no_pair_is_refused(item: str) -> None:
    with pytest.raises(UserError, match="name=value"):
        pairs([item])


@pytest.mark.parametrize("item", ["x=1", "1=x", "1"])
def test_what_is_no_bias_is_refused(item: str) -> None:
    with pytest.raises(UserError):
        biases([item])


def test_what_an_answer_fits(tmp_path: Path) -> None:
    schema, grammar = tmp_path / "schema.json", tmp_path / "sums.lark"
    schema.write_text('{"enum": ["é"]}', encoding="utf-8")
    grammar.write_text('start: "a"')
    assert structure([]) is None
    assert structure([f"json={schema}"]) == StructuredOutputs(json={"enum": ["é"]})
    assert structure([f"grammar={grammar}"]) == StructuredOutputs(grammar='start: "a"')
    assert structure(["regex=a=b"]) == StructuredOutputs(regex="a=b")
    assert structure(["choice=yes", "choice=no"]) == StructuredOutputs(choice=["yes", "no"])
    assert structure(["complete", "regex=a"]) == StructuredOutputs(regex="a", complete=True)
    assert structure(["json_object"]) == StructuredOutputs(json_object=True)
    made = parse(SAMPLING, "--structured", "choice=a", "--structured", "choice=b")
    assert made.structured_outputs == StructuredOutputs(choice=["a", "b"])


@pytest.mark.parametrize(
    "items",
    [
        ["json_object=false"],
        ["yaml=x"],
        ["regex=a", "regex=b"],
        ["regex=a", "choice=b"],
        ["json=no/such/file"],
        ["json"],
    ],
    ids=str,
)
def test_what_no_answer_fits_is_refused(items: list[str]) -> None:
    with pytest.raises(UserError):
        structure(items)
