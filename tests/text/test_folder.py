"""Tokenizers from a folder in Hugging Face's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from plait.core.errors import FormatError, NotFoundError
from plait.text import folder_source
from plait.text.chat import encode_chat
from plait.text.tokenizer import Tokenizer
from plait.text.vocabulary import byte_letters
from tests.text import small
from tests.text.strings import strings


def byte_level() -> tokenizers.Tokenizer:
    source = small.byte_level()
    text_tokens = source["tokenizer.ggml.tokens"][:-5]
    merges = [tuple(each.split(" ")) for each in source["tokenizer.ggml.merges"]]
    vocabulary = {name: i for i, name in enumerate(text_tokens)}
    library = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    library.add_tokens(["<tool>"])
    return library


def sentencepiece() -> tokenizers.Tokenizer:
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    vocabulary = {name: i for i, name in enumerate(names)}
    model = models.BPE(
        vocabulary, [("▁", "a")], unk_token="<unk>", byte_fallback=True, fuse_unk=True
    )
    library = tokenizers.Tokenizer(model)
    library.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    library.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Strip(" ", 1, 0)]
    )
    library.add_special_tokens(["<unk>", "<s>", "</s>"])
    library.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return library


def save(folder: Path, library: tokenizers.Tokenizer, **configs: Any) -> Path:
    (folder / "tokenizer.json").write_text(library.to_str())
    for name, content in configs.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_encodes_as_the_library_does(tmp_path: Path) -> None:
    library = byte_level()
    tokenizer = Tokenizer.from_folder(save(tmp_path, library))
    for text in strings(600):
        wanted = library.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, parse_special=True) == wanted
        assert tokenizer.decode(wanted, skip_special=False) == library.decode(
            wanted, skip_special_tokens=False
        )


def test_control_tokens_are_text_unless_asked_for(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(save(tmp_path, byte_level()))
    ids = tokenizer.encode("he<|im_end|><tool>")
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.token_name(ids[-1]) == "<tool>"
    assert tokenizer.decode(ids) == "he<|im_end|><tool>"


def test_sentencepiece_style(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(save(tmp_path, sentencepiece()))
    ids = tokenizer.encode("a aé")
    found = [tokenizer.token_name(token_id) for token_id in ids]
    assert found == ["<s>", "▁a", "▁a", "<0xC3>", "<0xA9>"]
    assert tokenizer.add_bos
    assert tokenizer.bos_id == 1
    assert tokenizer.decode(ids, at_start=True) == "a aé"
    assert tokenizer.token_bytes(ids[3]) == b"\xc3"


def test_truncation_and_padding_are_not_applied(tmp_path: Path) -> None:
    library = byte_level()
    library.enable_truncation(2)
    library.enable_padding(length=9)
    tokenizer = Tokenizer.from_folder(save(tmp_path, library))
    assert tokenizer.decode(tokenizer.encode("hello hello hello")) == "hello hello hello"


def test_endings_come_from_all_files(tmp_path: Path) -> None:
    folder = save(
        tmp_path,
        byte_level(),
        tokenizer_config={"eos_token": {"content": "<|im_end|>"}, "bos_token": "<|im_start|>"},
        generation_config={"eos_token_id": [0, 1]},
    )
    tokenizer = Tokenizer.from_folder(folder)
    names = {tokenizer.token_name(token_id) for token_id in tokenizer.eos_ids}
    letters = list(byte_letters().values())
    assert names == {"<|im_end|>", "<|endoftext|>", letters[0], letters[1]}
    assert tokenizer.token_name(tokenizer.bos_id or 0) == "<|im_start|>"
    assert not tokenizer.add_bos


@pytest.mark.parametrize("where", ["jinja", "json", "config", "list"])
def test_the_chat_template_may_be_in_any_of_its_places(tmp_path: Path, where: str) -> None:
    config: dict[str, Any] = {}
    if where == "jinja":
        (tmp_path / "chat_template.jinja").write_text(small.CHATML)
        config = {"chat_template": "not this one"}
    elif where == "json":
        (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": small.CHATML}))
    elif where == "config":
        config = {"chat_template": small.CHATML}
    else:
        config = {"chat_template": [{"name": "default", "template": small.CHATML}]}
    tokenizer = Tokenizer.from_folder(save(tmp_path, byte_level(), tokenizer_config=config))
    assert tokenizer.chat_template == small.CHATML
    harmless = encode_chat(tokenizer, [{"role": "user", "content": "hello"}])
    assert tokenizer.decode(harmless, skip_special=False).startswith("<|im_start|>user\nhello")
    attack = encode_chat(tokenizer, [{"role": "user", "content": "<|im_end|>"}])
    specials = [token_id for token_id in attack if token_id in tokenizer.special_ids]
    assert [tokenizer.token_name(i) for i in specials] == [
        *("<|im_start|>", "<|im_end|>", "<|im_start|>")
    ]
    assert "user\n<|im_end|><|im_end|>" in tokenizer.decode(attack, skip_special=False)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("tokenizer.json", "{", "is not a tokenizer"),
        ("tokenizer.json", b"\xff\xfe", "cannot be read"),
        ("tokenizer.json", "[" * 100_000, "is not a tokenizer"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json is not a JSON object"),
        ("tokenizer_config.json", "[" * 100_000, "tokenizer_config.json is not JSON"),
        ("tokenizer_config.json", '{"chat_template": 3}', "chat_template is not text"),
        ("generation_config.json", '{"eos_token_id": 99999}', "eos_token_id 99999"),
        ("generation_config.json", '{"eos_token_id": ["a"]}', "eos_token_id 'a'"),
    ],
)
def test_wrong_files_are_named(
    tmp_path: Path, name: str, content: str | bytes, problem: str
) -> None:
    save(tmp_path, byte_level())
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(FormatError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert problem in caught.value.message


def change(library: tokenizers.Tokenizer, path: str, value: Any) -> str:
    """tokenizer.json with one place (keys joined by dots) changed."""
    whole = json.loads(library.to_str())
    *parents, last = path.split(".")
    place = whole
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(whole)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("model.merges", [["hello", "hello"]], "is not a tokenizer"),
        ("model", {"type": "BPE", "vocab": {"a": 4_000_000_000}, "merges": []}, "token id"),
        ("decoder", {"type": "WordPiece", "prefix": "##", "cleanup": True}, "decoder is of a kind"),
        ("model.type", "no such model", "is not a tokenizer"),
    ],
)
def test_hostile_tokenizers_are_refused(
    tmp_path: Path, path: str, value: Any, problem: str
) -> None:
    (tmp_path / "tokenizer.json").write_text(change(byte_level(), path, value))
    with pytest.raises(FormatError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert problem in caught.value.message


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_source, "MAX_TOKENIZER_BYTES", 1 << 20)
    (tmp_path / "tokenizer.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(FormatError, match="larger than 1 MB"):
        Tokenizer.from_folder(tmp_path)
