"""EngineConfig: every default lives here; the command line and the docs read it from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from plait.core.errors import UserError

VERSION = "0.1.0"
"""Of Plait, as `plait.__version__` says it."""

PAGE = 32
"""Slots per KV page; the same number is in csrc/include/plait/batch.h."""

LIMITS = ("max_queued_requests", "max_queued_tokens", "max_request_tokens", "max_request_kv")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How to run a model.

    model: short name, local path or hf:owner/name[:file].
    activations: "int8" (fast) or "f32" (exact against the reference executor).
    executor: "native" or "reference" (NumPy; the oracle).
    kv: element type of the KV cache: "f16", "f32", "int8" (half the bytes of f16, a scale per slot and
        head) or "auto" (f16 with int8 activations, else f32).
    threads: 0 means what affinity, cgroup quota and physical cores allow.
    max_num_batched_tokens: positions one step may feed in all; 0 means 512 or, with a planner that feeds a canvas
        as a whole, as many as the context has, as far as memory goes. max_num_seqs: requests running at once.
    max_step_stretch: how many times as long a step of running requests may become by prompts that ride
        along; needs what `plait bench step` measured on this machine, without it a prompt takes what is left
        of max_num_batched_tokens.
    max_queued_requests, max_queued_tokens: requests, and tokens of their prompts, that may wait for their
        turn; 0 means no limit.
    max_request_tokens, max_request_seconds, max_request_kv: what one request, with all of its choices, may
        generate, may take from submission on, and may hold of the KV cache in slots; 0 means no limit.
    max_model_len: longest canvas in tokens; 0 means what the model and the memory allow.
    kv_memory: bytes for the KV cache; 0 means fitted to the machine.
    proposer: what drafts tokens for the model to verify, which makes answers faster and changes none: "none",
        "lookahead", "draft:MODEL" (a smaller model of the same vocabulary), "heads:FILE" (Medusa's heads for this
        model, safetensors), "self" (of a model that decides blocks as well), "auto" (what pays; "auto:MODEL" with a draft model).
    corpus: a text file, or a folder of them, in which "lookahead" and "auto" look up how a text may go on; "": none.
    planner, decoder, cache: names of siblings; "auto" is what the model's traits call for.
    enable_prefix_caching: whether the cache "auto" shares what prompts begin with between requests ("radix"),
        with a model that allows it, or not ("paged").
    options: settings of those siblings by field name.
    isa: name of a kernel table, "auto" for the best that this processor runs.
    """

    model: str = "smollm2-135m"
    activations: str = "int8"
    executor: str = "native"
    kv: str = "auto"
    threads: int = 0
    max_num_batched_tokens: int = 0
    max_num_seqs: int = 64
    max_step_stretch: float = 1.6
    max_queued_requests: int = 0
    max_queued_tokens: int = 0
    max_request_tokens: int = 0
    max_request_seconds: float = 0.0
    max_request_kv: int = 0
    max_model_len: int = 0
    kv_memory: int = 0
    proposer: str = "auto"
    corpus: str = ""
    planner: str = "auto"
    decoder: str = "auto"
    cache: str = "auto"
    enable_prefix_caching: bool = True
    options: Mapping[str, str] = field(default_factory=dict)
    isa: str = "auto"
    offline: bool = False

    def __post_init__(self) -> None:
        for name in ("model", "proposer", "corpus", "planner", "decoder", "cache", "isa"):
            _of_kind(name, getattr(self, name), str, "text")
        for name in ("offline", "enable_prefix_caching"):
            _of_kind(name, getattr(self, name), bool, "true or false")
        _of_kind("options", self.options, Mapping, "a mapping from names to values")
        _one_of("activations", self.activations, ("int8", "f32"))
        _one_of("executor", self.executor, ("native", "reference"))
        _one_of("kv", self.kv, ("auto", "f16", "f32", "int8"))
        for name in ("threads", "max_num_batched_tokens", "max_model_len", "kv_memory", *LIMITS):
            _at_least(name, getattr(self, name), 0)
        _number("max_step_stretch", self.max_step_stretch, 1)
        _number("max_request_seconds", self.max_request_seconds, 0)
        _at_least("max_num_seqs", self.max_num_seqs, 1)

    @property
    def kv_type(self) -> str:
        """Element type of the KV cache, with "auto" resolved."""
        exact = self.activations == "f32"
        return self.kv if self.kv != "auto" else "f32" if exact else "f16"


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name}={value!r} is not known", f"choose one of: {', '.join(allowed)}")


def _of_kind(name: str, value: object, kind: type, wanted: str) -> None:
    if not isinstance(value, kind):
        raise UserError(f"{name}={value!r} is not what it should be", wanted)


def _number(name: str, value: float, low: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < inf:
        raise UserError(f"{name}={value!r} is out of range", f"a number of at least {low}")


def _at_least(name: str, value: int, low: int) -> None:
    if type(value) is not int or value < low:
        raise UserError(f"{name}={value!r} is out of range", f"a whole number of at least {low}")
