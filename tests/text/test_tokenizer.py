"""Tokenizers from GGUF metadata: what they say, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from plait.core.errors import FormatError, UserError
from plait.text import merges
from plait.text.tokenizer import Tokenizer
from tests.text import models, oracle, small
from tests.text.small import BYTE, CONTROL, NORMAL, USER


def names(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    return [tokenizer.token_name(token_id) for token_id in ids]


def test_merges_by_rank_within_words() -> None:
    tokenizer = small.tokenizer()
    ids = tokenizer.encode("hello hello hel")
    assert names(tokenizer, ids) == ["hello", "Ġhello", "Ġ", "he", "l"]
    assert tokenizer.decode(ids) == "hello hello hel"


def test_control_tokens_are_read_only_when_asked_for() -> None:
    tokenizer = small.tokenizer()
    text = "he<|im_end|>"
    assert names(tokenizer, tokenizer.encode(text, parse_special=True)) == ["he", "<|im_end|>"]
    plain = tokenizer.encode(text)
    assert not tokenizer.special_ids & set(plain)
    assert tokenizer.decode(plain) == text


def test_user_defined_tokens_are_always_cut_out() -> None:
    tokenizer = small.tokenizer()
    assert names(tokenizer, tokenizer.encode("he<tool>he")) == ["he", "<tool>", "he"]
    assert tokenizer.decode(tokenizer.encode("he<tool>")) == "he<tool>"


def test_special_tokens_are_shown_only_when_asked_for() -> None:
    tokenizer = small.tokenizer()
    ids = tokenizer.encode("he<|im_end|>", parse_special=True)
    assert tokenizer.decode(ids) == "he"
    assert tokenizer.decode(ids, skip_special=False) == "he<|im_end|>"


def test_bos_is_added_when_the_file_says_so() -> None:
    assert small.tokenizer().encode("he") == small.tokenizer().encode("he", add_special=False)
    tokenizer = small.tokenizer(add_bos_token=True)
    assert tokenizer.add_bos
    assert names(tokenizer, tokenizer.encode("he")) == ["<|im_start|>", "he"]
    assert names(tokenizer, tokenizer.encode("")) == ["<|im_start|>"]
    ending = small.tokenizer(add_eos_token=True)
    assert names(ending, ending.encode("he")) == ["he", "<|im_end|>"]


def test_llama3_adds_bos_and_keeps_whole_words() -> None:
    changes: dict[str, Any] = {"pre": "llama-bpe", "merges": ["h e"]}
    tokenizer = small.tokenizer(**changes)
    assert names(tokenizer, tokenizer.encode("hell")) == ["<|im_start|>", "hell"]
    assert len(small.tokenizer(**changes | {"pre": "qwen2"}).encode("hell")) == 3


def test_endings_are_the_declared_one_and_the_usual_names() -> None:
    tokenizer = small.tokenizer()
    assert names(tokenizer, sorted(tokenizer.eos_ids)) == ["<|im_end|>", "<|endoftext|>"]
    declared = small.tokenizer(eot_token_id=3)
    assert 3 in declared.eos_ids


def test_a_control_token_written_down_as_text_is_one_all_the_same() -> None:
    source = small.byte_level()
    source["tokenizer.ggml.token_type"][-4] = NORMAL
    tokenizer = Tokenizer.from_gguf(source)
    assert tokenizer.token_name(tokenizer.vocab_size - 4) == "<|im_end|>"
    assert tokenizer.vocab_size - 4 in tokenizer.special_ids


def test_bytes_of_tokens() -> None:
    tokenizer = small.tokenizer()
    table = tokenizer.vocabulary()
    assert len(table) == tokenizer.vocab_size
    assert {bytes([byte]) for byte in range(256)} <= set(table)
    assert table[tokenizer.encode(" hello")[0]] == b" hello"
    assert tokenizer.decode([table.index(b"\xe4"), table.index(b"\xbd")]) == "\ufffd"


def test_bytes_without_a_token_are_left_out_and_nothing_merges_across() -> None:
    source = small.byte_level()
    source["tokenizer.ggml.tokens"][source["tokenizer.ggml.tokens"].index("!")] = "not a letter"
    tokenizer = Tokenizer.from_gguf(source | {"tokenizer.ggml.pre": "gpt-2"})
    assert names(tokenizer, tokenizer.encode("?!?")) == ["?", "?"]


def test_text_cannot_grow_into_a_control_token() -> None:
    source = small.pieces({"<": -1.0, "s": -2.0, ">": -3.0, "<s": -4.0})
    tokenizer = Tokenizer.from_gguf(source | {"tokenizer.ggml.add_space_prefix": False})
    assert names(tokenizer, tokenizer.encode("<s>", add_special=False)) == ["<s", ">"]
    merges = ["h e", "< |", "<| i"]
    tokens = [*small.byte_level()["tokenizer.ggml.tokens"][:256], "he", "<|", "<|i"]
    kinds = [NORMAL] * 258 + [CONTROL]
    grown = small.tokenizer(
        tokens=tokens, token_type=kinds, merges=merges, bos_token_id=None, eos_token_id=None
    )
    assert names(grown, grown.encode("<|i")) == ["<|", "i"]


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UserError, match="lone surrogate at character 2"):
        small.tokenizer().encode("ab\ud800")


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    tokenizer = small.tokenizer()
    for token_id in (-1, tokenizer.vocab_size):
        with pytest.raises(UserError, match="not a token id"):
            tokenizer.decode([token_id])


@pytest.mark.parametrize("pre", sorted(set(oracle.FAMILIES) - {"smollm"}))
@pytest.mark.parametrize("unit", [" ", "\n", " \n", "a", "ab ", "1", "-", "哈", "\t "])
def test_long_runs_are_encoded(pre: str, unit: str) -> None:
    tokenizer = small.tokenizer(pre=pre, add_bos_token=False)
    text = unit * 30_000 + "x"
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.large  # a gigabyte of memory, ten seconds
def test_a_very_long_run_of_spaces_is_encoded() -> None:
    """An expression that backtracks gives up after ten million steps."""
    tokenizer = small.tokenizer(pre="qwen2")
    assert len(tokenizer.encode(" " * 10_500_000 + "x")) == 10_500_001


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "tokenizer.ggml.model is missing"),
    ({"model": 7}, "tokenizer.ggml.model is not text"),
    ({"model": "bert"}, "tokenizer.ggml.model is 'bert'"),
    ({"pre": "no-such-thing"}, "tokenizer.ggml.pre names"),
    ({"tokens": None}, "tokenizer.ggml.tokens is missing"),
    ({"tokens": []}, "tokenizer.ggml.tokens is empty"),
    ({"tokens": "abc"}, "tokenizer.ggml.tokens is not a list"),
    ({"tokens": ["a", 1]}, "tokenizer.ggml.tokens is not a list of text"),
    ({"tokens": ["\ud800"]}, "tokenizer.ggml.tokens holds a lone surrogate"),
    ({"tokens": ["a", "b", "a"], "token_type": [1, 1, 1]}, "token 2 repeats 'a'"),
    ({"token_type": [1]}, "tokenizer.ggml.token_type has 1 entries"),
    ({"tokens": ["a"], "token_type": [99]}, "tokenizer.ggml.token_type has a kind"),
    ({"tokens": ["a"], "token_type": ["1"]}, "tokenizer.ggml.token_type is not a list of numbers"),
    ({"tokens": ["a"], "token_type": [BYTE]}, "byte token 0 is called 'a'"),
    ({"merges": None}, "tokenizer.ggml.merges is missing"),
    ({"merges": ["he"]}, "tokenizer.ggml.merges: merge 0 is no pair"),
    ({"merges": ["h e", "zz top"]}, "tokenizer.ggml.merges: merge 1 needs a token"),
    ({"merges": ["z e"]}, "merge 0 needs a token 'ze'"),
    ({"merges": ["hello", "h e"]}, "tokenizer.ggml.merges: merge 0 is no pair"),
    ({"merges": ["hel lo"]}, "tokenizer.ggml.merges: merge 0 needs a token"),
    ({"eos_token_id": 10**9}, "tokenizer.ggml.eos_token_id is 1000000000"),
    ({"bos_token_id": -1}, "tokenizer.ggml.bos_token_id is -1"),
    ({"bos_token_id": "1"}, "tokenizer.ggml.bos_token_id is '1'"),
    ({"add_bos_token": 1}, "tokenizer.ggml.add_bos_token is neither"),
    ({"add_bos_token": True, "bos_token_id": None}, "tokenizer.ggml.add_bos_token asks"),
]


@pytest.mark.parametrize(("changes", "problem"), HOSTILE, ids=[each[1] for each in HOSTILE])
def test_wrong_metadata_names_its_field(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(FormatError) as caught:
        small.tokenizer(**changes)
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scores": None}, "tokenizer.ggml.scores is missing"),
        ({"scores": [1.0]}, "tokenizer.ggml.scores has 1 entries"),
        ({"scores": [float("nan")] * 260}, "tokenizer.ggml.scores holds a number"),
        ({"unknown_token_id": 5_000}, "tokenizer.ggml.unknown_token_id is 5000"),
    ],
)
def test_wrong_scores_name_their_field(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(FormatError) as caught:
        Tokenizer.from_gguf(small.pieces({"a": -1.0}, **changes))
    assert problem in caught.value.message


def test_a_template_that_is_not_text_is_refused() -> None:
    with pytest.raises(FormatError, match="chat_template"):
        Tokenizer.from_gguf(small.byte_level() | {"tokenizer.chat_template": ["a"]})


def test_smollm2() -> None:
    tokenizer = models.tokenizer("smollm2-135m")
    assert tokenizer.vocab_size == 49_152
    assert not tokenizer.add_bos
    assert names(tokenizer, sorted(tokenizer.eos_ids)) == ["<|endoftext|>", "<|im_end|>"]
    assert tokenizer.eos_id == 2
    assert tokenizer.chat_template
    assert "<|im_start|>" in tokenizer.chat_template


@pytest.mark.large
def test_gemma() -> None:
    tokenizer = models.tokenizer("gemma3-270m")
    assert names(tokenizer, tokenizer.encode("Hello  world")) == ["<bos>", "Hello", "  ", "world"]
    assert names(tokenizer, sorted(tokenizer.eos_ids)) == ["<eos>", "<end_of_turn>"]
    assert tokenizer.chat_template is None


@pytest.mark.large
def test_qwen() -> None:
    tokenizer = models.tokenizer("qwen2.5-coder-0.5b")
    assert names(tokenizer, sorted(tokenizer.eos_ids)) == ["<|endoftext|>", "<|im_end|>"]
    assert names(tokenizer, tokenizer.encode("<tool_call>1234")) == ["<tool_call>", *"1234"]


def test_user_defined_kind_is_text() -> None:
    tokenizer = small.tokenizer()
    assert tokenizer.vocab_size - 2 not in tokenizer.special_ids
    assert small.byte_level()["tokenizer.ggml.token_type"][-2] == USER


def test_a_damaged_merge_is_found_without_walking_the_vocabulary_for_each() -> None:
    class LookUps(dict[str, int]):
        def keys(self) -> Any:
            raise AssertionError("with 49,152 tokens and as many merges this takes half a minute")

    vocabulary = small.tokenizer()._vocabulary
    ids = LookUps({"h": 0, "e": 1, "he": 2})
    assert merges._usable([("h", "e")], ids, vocabulary) == [("h", "e")]
    with pytest.raises(FormatError, match="merge 1 needs a token"):
        merges._usable([("h", "e"), ("e", "h")], ids, vocabulary)
