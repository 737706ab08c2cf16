"""Spelling and help of every option that comes from EngineConfig and SamplingParams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plait.cli.options import Flag, Panel, biases, pairs, size, spans, structure
from plait.core import registry
from plait.core.config import EngineConfig
from plait.core.params import SamplingParams

TemplateFile = Annotated[
    Path | None, typer.Option("--chat-template", help="Jinja file instead of the model's own.")
]
System = Annotated[str, typer.Option("-s", "--system", help="System message.")]


def _siblings(room: str) -> str:
    return ", ".join(registry.names(room))


SAMPLING = Panel(
    "Sampling",
    # For reading, not for measuring: moderate sampling, and an answer as long as the model makes it.
    SamplingParams(max_tokens=None, temperature=0.7, top_p=0.95),
    {
        "max_tokens": Flag(
            "Tokens to generate at most; by default until the model stops or the context is full.",
            ("-n", "--max-tokens"),
        ),
        "temperature": Flag("0 always takes the likeliest token.", ("-t", "--temperature")),
        "top_k": Flag("Choose among the k likeliest tokens; 0 is all."),
        "top_p": Flag("Choose among the likeliest tokens that together reach this probability."),
        "min_p": Flag("Leave out tokens below this share of the likeliest one's probability."),
        "typical_p": Flag("Choose among the most typical tokens that reach this probability."),
        "repetition_penalty": Flag("Above 1: tokens that occurred already become less likely."),
        "presence_penalty": Flag("Taken once from the logit of each token that was generated."),
        "frequency_penalty": Flag("Taken each time a token was generated."),
        "logit_bias": Flag(
            "Add to a token's logit, e.g. 42=-100. May be repeated.",
            kind=list[str],
            read=biases,
            metavar="ID=BIAS",
        ),
        "seed": Flag("The same seed gives the same answer."),
        "stop": Flag(
            "End the answer before this text. May be repeated.", kind=list[str], read=tuple
        ),
        "stop_token_ids": Flag(
            "End the answer at this token id. May be repeated.",
            ("--stop-token-id",),
            kind=list[int],
            read=tuple,
        ),
        "include_stop_str_in_output": Flag(
            "Keep the stop text in the answer.", ("--include-stop",)
        ),
        "min_tokens": Flag("Do not stop before this many tokens."),
        "ignore_eos": Flag("Go on after the model's own end token.", ("--ignore-eos",)),
        "skip_special_tokens": Flag(
            "Leave special tokens out of the text.", ("--skip-special/--keep-special",)
        ),
        "n": Flag("Answers to generate.", ("--samples",)),
        "logprobs": Flag("Alternatives to return with each token (needs --json)."),
        "prompt_logprobs": Flag("The same for the tokens of the prompt (needs --json)."),
        "infill": Flag(
            "Fill in these tokens of the prompt, counted from 0, e.g. 4:9 (diffusion). May be repeated.",
            kind=list[str],
            read=spans,
            metavar="START:END",
        ),
        "structured_outputs": Flag(
            "Let the answer fit: json=FILE (a schema), regex=EXPRESSION, grammar=FILE (Lark or EBNF), "
            "structural_tag=FILE (free text around parts that are not), json_object, or "
            "choice=TEXT once for each choice; besides complete (led to its end before the limit would cut it), and of an "
            "infill begins_at=TOKEN.",
            ("--structured",),
            kind=list[str],
            read=structure,
            metavar="KIND=VALUE",
        ),
    },
)

ENGINE = Panel(
    "Engine",
    EngineConfig(),
    {
        "proposer": Flag(
            "Draft tokens for the model to verify, for the same answer sooner: none, lookahead, draft:MODEL, "
            "heads:FILE, self (a model of several modes), auto, auto:MODEL.",
        ),
        "corpus": Flag(
            "Text file, or folder of them, in which the proposers lookahead and auto also look up how a text goes on."
        ),
        "planner": Flag(f"Order of the work: auto, {_siblings('iteration')}."),
        "decoder": Flag(
            f"Choice of the tokens: auto, {_siblings('decoding')}; or one in another: credit(threshold)."
        ),
        "cache": Flag(f"What is kept of the past: auto, {_siblings('kvcache')}."),
        "enable_prefix_caching": Flag(
            "Compute what several prompts begin with only once.",
            ("--enable-prefix-caching/--no-enable-prefix-caching",),
        ),
        "options": Flag(
            "Setting of the planner, decoder or cache. May be repeated.",
            ("-o", "--option"),
            kind=list[str],
            read=pairs,
            metavar="NAME=VALUE",
        ),
        "threads": Flag("0 is what this machine allows."),
        "activations": Flag("int8 (fast) or f32 (exact against the reference executor)."),
        "executor": Flag("native, or reference (NumPy, slow)."),
        "kv": Flag("Element type of the KV cache: auto, f16, f32, int8."),
        "max_model_len": Flag(
            "Longest prompt plus answer in tokens; 0 is what the model and the memory allow.",
            ("--ctx",),
            kind=int,
            parser=size,
            metavar="SIZE",
        ),
        "kv_memory": Flag(
            "Bytes for the KV cache; 0 is fitted to the machine.",
            kind=int,
            parser=size,
            metavar="SIZE",
        ),
        "max_num_batched_tokens": Flag(
            "Positions that one forward may feed; 0 is 512, or the context where a canvas is fed as a whole."
        ),
        "max_num_seqs": Flag("Requests that may run at once."),
        "max_step_stretch": Flag(
            "How many times as long prompts may make a step of running requests (see `plait bench step`)."
        ),
        "max_queued_requests": Flag("Requests that may wait for their turn; 0 is no limit."),
        "max_queued_tokens": Flag("Prompt tokens that may wait for their turn; 0 is no limit."),
        "max_request_tokens": Flag("Tokens that one request may generate; 0 is no limit."),
        "max_request_seconds": Flag("Seconds that one request may take; 0 is no limit."),
        "max_request_kv": Flag("Slots of KV cache that one request may hold; 0 is no limit."),
        "isa": Flag("Kernel table; `plait show --hardware` lists them."),
        "offline": Flag("Use only what is on this machine.", ("--offline",)),
    },
)
