"""How each family of byte-level BPE cuts text into words before it merges within them.

A family is a list of regular expressions, applied one after the other: what one matches becomes a piece
of its own and so does what lies between its matches. The expressions are the ones published with the
models (GPT-2's encoder.py, the `pre_tokenizer` of each model's tokenizer.json); the names are the values
of `tokenizer.ggml.pre` that GGUF files carry.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers

from plait.core.errors import FormatError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# The published form is \s*[\r\n]+, which gives up a long run of spaces one by one.
_LINES = r"(?:(?>[^\S\r\n]*)[\r\n]+)+"
_SPACES = rf"{_LINES}|\s+(?!\S)|\s+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"

_DIGIT = r"\p{N}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_SYMBOLS}|{_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_BAILING = rf"'(?i:[sdmt]|ll|ve|re)|{_WORD}|\p{{N}}|{_SYMBOLS}|{_SPACES}"
_DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
_UNNAMED = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")


@dataclass(frozen=True)
class Family:
    """expressions: applied in this order. whole_words: a word that is a token is never cut by merges.

    add_bos: prompts start with the beginning-of-sequence token unless the metadata says otherwise.
    """

    expressions: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


_FAMILIES = {
    ("default",): Family(_UNNAMED),
    ("gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "trillion", "mellum"): Family((_GPT2,)),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"): Family(
        (_DIGIT, _GPT2)
    ),
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2"): Family(
        (_LLAMA3,), whole_words=True, add_bos=True
    ),
    ("dbrx", "smaug-bpe", "chatglm-bpe"): Family((_LLAMA3,)),
    ("glm4",): Family((_LLAMA3,), whole_words=True),
    ("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"): Family((_QWEN2,)),
    ("qwen35",): Family((_QWEN35,)),
    ("bailingmoe", "bailingmoe2", "llada-moe"): Family((_BAILING,)),
    ("deepseek-v3", "hunyuan-dense"): Family((r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK)),
}
FAMILIES = {name: family for names, family in _FAMILIES.items() for name in names}
"""Value of `tokenizer.ggml.pre` -> its family."""


def family(name: str) -> Family:
    """The family of a `tokenizer.ggml.pre` value. FormatError, with the nearest names, if unknown."""
    if name in FAMILIES:
        return FAMILIES[name]
    near = difflib.get_close_matches(name, FAMILIES, n=3) or sorted(FAMILIES)
    raise FormatError(
        f"tokenizer.ggml.pre names a pre-tokenizer that is not known here: {name[:80]!r}",
        f"known: {', '.join(near)}",
    )


def build(chosen: Family) -> pre_tokenizers.PreTokenizer:
    """The family as a `tokenizers` object: cut by every expression, then spell bytes as letters."""
    cuts = [pre_tokenizers.Split(Regex(each), "isolated") for each in chosen.expressions]
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([*cuts, spell])
