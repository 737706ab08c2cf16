"""ModelConfig: the hyperparameters of a decoder, read from GGUF metadata or a Hugging Face config.json."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from plait.core.errors import FormatError


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """kind: "none", "linear" or "llama3". The rest are the numbers of the Llama 3.1 rule.

    factors: per-pair divisors of the inverse frequencies when the file carries them (rope_freqs.weight).
    """

    kind: str = "none"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """source: "gguf" or "safetensors". extra: the raw mapping, for what only one family has."""

    source: str
    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocab_size: int
    context_length: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling
    sliding_window: int
    activation: str
    eos_ids: frozenset[int]
    extra: Mapping[str, Any]


MOST_TOKENS = 2**31 - 1
MOST = 1e30
"""Beyond any parameter of a model, and within float32."""


class Reader:
    """Typed access to a mapping with errors that name the key."""

    def __init__(self, mapping: Mapping[str, Any], where: str) -> None:
        self.mapping = mapping
        self.where = where

    def integer(
        self, *keys: str, default: int | None = None, least: int = 0, most: int = 1 << 24
    ) -> int:
        value = self._find(keys, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(keys[0], value, f"a whole number in {least}..{most}")
        return value

    def number(self, *keys: str, default: float | None = None) -> float:
        value = self._find(keys, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(keys[0], value, "a number")
        if not abs(value) <= MOST:  # NaN too
            raise self._wrong(keys[0], value, f"a number of at most {MOST:g}")
        return float(value)

    def positive(self, *keys: str, default: float | None = None) -> float:
        """A number that may be divided by, in float32 too."""
        value = self.number(*keys, default=default)
        if value < 1 / MOST:
            raise self._wrong(keys[0], value, f"a number above 0, at least {1 / MOST:g}")
        return value

    def flag(self, *keys: str, default: bool) -> bool:
        value = self._find(keys, default)
        if not isinstance(value, bool):
            raise self._wrong(keys[0], value, "true or false")
        return value

    def only(self, expected: Mapping[str, Any]) -> None:
        """Raise FormatError where a key that is present, and not null, says something else."""
        for key, wanted in expected.items():
            found = self.mapping.get(key)
            if found is not None and found != wanted:
                raise self._wrong(key, found, f"{wanted!r} in every model of this family")

    def _wrong(self, key: str, value: Any, wanted: str) -> FormatError:
        return FormatError(f"{self.where}: {key} is {reprlib.repr(value)}", wanted)

    def _find(self, keys: tuple[str, ...], default: Any) -> Any:
        for key in keys:
            if self.mapping.get(key) is not None:
                return self.mapping[key]
        if default is None:
            raise FormatError(f"{self.where}: {keys[0]} is missing", "the file describes no model")
        return default


def from_gguf(metadata: Mapping[str, Any]) -> ModelConfig:
    """Keys as in the GGUF specification: `<architecture>.block_count` and so on."""
    architecture = str(metadata.get("general.architecture", ""))
    reader = Reader(metadata, "GGUF metadata")
    name = f"{architecture}.".__add__
    heads = reader.integer(name("attention.head_count"))
    width = reader.integer(name("embedding_length"))
    head_dim = reader.integer(
        name("attention.key_length"), default=width // max(heads, 1), most=4096
    )
    tokens = metadata.get("tokenizer.ggml.tokens")
    vocab_size = len(tokens) if isinstance(tokens, list) else reader.integer(name("vocab_size"))
    eos_keys = ("eos_token_id", "eot_token_id", "eom_token_id")
    eos = {metadata.get(f"tokenizer.ggml.{key}") for key in eos_keys}
    return _checked(
        ModelConfig(
            source="gguf",
            architecture=architecture,
            layers=reader.integer(name("block_count"), most=4096),
            width=width,
            heads=heads,
            kv_heads=reader.integer(name("attention.head_count_kv"), default=heads),
            head_dim=head_dim,
            feed_forward=reader.integer(
                name("feed_forward_length"), name("expert_feed_forward_length")
            ),
            vocab_size=vocab_size,
            context_length=reader.integer(name("context_length"), most=MOST_TOKENS),
            norm_eps=reader.number(name("attention.layer_norm_rms_epsilon"), default=1e-5),
            rope_theta=reader.positive(name("rope.freq_base"), default=10000.0),
            rope_scaling=_gguf_scaling(reader, name),
            sliding_window=reader.integer(name("attention.sliding_window"), default=0),
            activation="silu",
            eos_ids=token_ids(eos),
            extra=metadata,
        )
    )


def _gguf_scaling(reader: Reader, name: Any) -> RopeScaling:
    kind = str(reader.mapping.get(name("rope.scaling.type"), "none"))
    factor = reader.number(name("rope.scaling.factor"), default=1.0)
    if kind not in ("none", "linear"):
        raise FormatError(f"rope scaling {kind[:80]!r} is not supported", "none, linear or llama3")
    if factor in (0.0, 1.0):
        return RopeScaling()
    return RopeScaling(kind, reader.positive(name("rope.scaling.factor"), default=1.0))


def from_hf(config: Mapping[str, Any]) -> ModelConfig:
    """Keys as in the `config.json` of transformers' decoder models, or else as OLMo names them."""
    reader = Reader(config, "config.json")
    heads = reader.integer("num_attention_heads", "n_heads")
    width = reader.integer("hidden_size", "d_model")
    eos = config.get("eos_token_id")
    eos_ids = eos if isinstance(eos, list) else [eos]
    window = reader.integer("sliding_window", default=0, most=MOST_TOKENS)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        found = reprlib.repr(rope)
        raise FormatError(f"config.json: rope_scaling is {found}", "an object or null")
    return _checked(
        ModelConfig(
            source="safetensors",
            architecture=str(config.get("model_type", "")),
            layers=reader.integer("num_hidden_layers", "n_layers", most=4096),
            width=width,
            heads=heads,
            kv_heads=reader.integer("num_key_value_heads", "n_kv_heads", default=heads),
            head_dim=reader.integer("head_dim", default=width // max(heads, 1), most=4096),
            feed_forward=reader.integer(
                "intermediate_size",
                "mlp_hidden_size",
                "dense_intermediate_size",
                "expert_intermediate_size",
            ),
            vocab_size=reader.integer("vocab_size"),
            context_length=reader.integer(
                "max_position_embeddings", "max_sequence_length", most=MOST_TOKENS
            ),
            norm_eps=reader.number("rms_norm_eps", "layer_norm_eps", default=1e-6),
            rope_theta=Reader({**config, **rope}, "config.json").positive(
                "rope_theta", default=10000.0
            ),
            rope_scaling=_hf_scaling(rope),
            sliding_window=window if config.get("use_sliding_window", True) else 0,
            activation=_hf_activation(config),
            eos_ids=token_ids(eos_ids),
            extra=config,
        )
    )


def _hf_activation(config: Mapping[str, Any]) -> str:
    named = str(config.get("hidden_activation") or config.get("hidden_act") or "silu")
    known = {
        "silu": "silu",
        "swish": "silu",
        "swiglu": "silu",
        "gelu": "gelu",
        "geglu": "gelu",
        "gelu_pytorch_tanh": "gelu_tanh",
        "gelu_new": "gelu_tanh",
    }
    if named not in known:
        raise FormatError(
            f"config.json: hidden_act {named[:80]!r} is not supported", ", ".join(known)
        )
    return known[named]


def _hf_scaling(rope: Mapping[str, Any]) -> RopeScaling:
    kind = str(rope.get("rope_type") or rope.get("type") or "none")
    reader = Reader(rope, "config.json: rope_scaling")
    if kind in ("none", "default"):
        return RopeScaling()
    if kind == "linear":
        return RopeScaling("linear", reader.positive("factor"))
    if kind == "llama3":
        return RopeScaling(
            "llama3",
            reader.positive("factor"),
            reader.positive("low_freq_factor"),
            reader.positive("high_freq_factor"),
            reader.integer("original_max_position_embeddings", most=MOST_TOKENS),
        )
    raise FormatError(f"rope scaling {kind[:80]!r} is not supported", "default, linear or llama3")


def _checked(config: ModelConfig) -> ModelConfig:
    sizes = ("layers", "width", "heads", "kv_heads", "head_dim", "feed_forward", "vocab_size")
    for name in (*sizes, "context_length"):
        if getattr(config, name) < 1:
            raise FormatError(f"the model declares {name}={getattr(config, name)}", "at least 1")
    if config.heads % config.kv_heads:
        raise FormatError(
            f"{config.heads} heads cannot share {config.kv_heads} key-value heads",
            "the first must be a multiple of the second",
        )
    if config.head_dim % 2:
        raise FormatError(f"head size {config.head_dim} is odd", "rotary embedding needs pairs")
    return config


def token_ids(values: Iterable[Any]) -> frozenset[int]:
    """Those of the values that may be token ids."""
    return frozenset(t for t in values if isinstance(t, int) and 0 <= t <= MOST_TOKENS)
