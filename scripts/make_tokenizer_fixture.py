#!/usr/bin/env python3
"""Make tests/text/oracle.npz: what independent tokenizers make of tests/text/strings.py.

    python scripts/make_tokenizer_fixture.py smollm2-135m=FILE qwen2.5-coder-0.5b=FILE gemma3-270m=FILE

Needs llama-cpp-python, sentencepiece and gguf, none of which Plait uses. The oracle for the three models
is llama.cpp; Gemma's vocabulary is also put into a SentencePiece model, and the strings on which the two
disagree are counted. Two small vocabularies are trained here and kept whole, so that their tests need no
download: one for SentencePiece, and one of bytes whose merges know no words, so that every difference
between two pre-tokenizers shows.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import io
import json
import platform
import sys
import tempfile
from itertools import starmap
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2 as messages

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.text import oracle, strings  # noqa: E402

Metadata = dict[str, Any]
TRAINING_TEXT = ROOT / "tests/fixtures/text/english.txt"
SMALL_VOCABULARY = 1_500


class LlamaCpp:
    """llama.cpp's tokenizer of a GGUF file, without its weights."""

    def __init__(self, path: Path) -> None:
        self._model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model._model.model)
        self.size = self._model.n_vocab()

    def encode(self, text: str, parse_special: bool) -> list[int]:
        return list(self._model.tokenize(text.encode(), add_bos=False, special=parse_special))

    def decode(self, ids: list[int]) -> str:
        return b"".join(map(self._piece, ids)).decode("utf-8", "replace")

    def _piece(self, token_id: int) -> bytes:
        buffer = ctypes.create_string_buffer(512)
        size = llama_cpp.llama_token_to_piece(self._vocab, token_id, buffer, 512, 0, False)
        return buffer.raw[:size]


def metadata(path: Path) -> Metadata:
    fields = gguf.GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if key.startswith("tokenizer.")}


def write_vocabulary(path: Path, source: Metadata) -> None:
    """A GGUF file that holds a tokenizer and nothing else."""
    writer = gguf.GGUFWriter(path, "llama")
    kinds = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32}
    for key, value in source.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            kinds[type(value)](key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def sentencepiece_of(source: Metadata) -> sentencepiece.SentencePieceProcessor:
    """The vocabulary of GGUF metadata as a SentencePiece model that normalises nothing."""
    model = messages.ModelProto()
    names = source["tokenizer.ggml.tokens"]
    kinds, scores = source["tokenizer.ggml.token_type"], source["tokenizer.ggml.scores"]
    for name, kind, score in zip(names, kinds, scores, strict=True):
        # GGUF converters write the spaces of user-defined pieces as spaces.
        piece = name.replace(" ", "\u2581") if kind == gguf.TokenType.USER_DEFINED else name
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type = messages.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = source["tokenizer.ggml.add_space_prefix"]
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def trained() -> Metadata:
    """GGUF metadata of a small SentencePiece BPE vocabulary with byte fallback."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING_TEXT.read_text(encoding="utf-8").splitlines()),
        model_writer=model, model_type="bpe", vocab_size=SMALL_VOCABULARY, byte_fallback=True,
        character_coverage=0.9995, normalization_rule_name="identity", num_threads=1,
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, minloglevel=2,
        user_defined_symbols=["<tag>", "</tag>"], control_symbols=["<turn>"],
    )  # fmt: skip
    pieces = messages.ModelProto.FromString(model.getvalue()).pieces
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece.piece for piece in pieces],
        "tokenizer.ggml.scores": [float(piece.score) for piece in pieces],
        "tokenizer.ggml.token_type": [int(piece.type) for piece in pieces],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": True,
    }


def trained_bytes() -> Metadata:
    """GGUF metadata of a small byte-level vocabulary whose merges cross words, digits and lines."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=SMALL_VOCABULARY, special_tokens=["<|end|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    texts = [text for text in strings.strings(oracle.NUM_SMALL_STRINGS) if "<" not in text]
    library.train_from_iterator(texts, trainer)
    model = json.loads(library.to_str())["model"]
    names = sorted(model["vocab"], key=model["vocab"].get)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [3, *[1] * (len(names) - 1)],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.eos_token_id": 0,
    }


def encoded(tokenizer: LlamaCpp, name: str, count: int, out: dict[str, Any]) -> None:
    """Checksums of the first `count` strings, without and with special tokens, into `out`."""
    texts = strings.strings(count)
    for parse, label in enumerate(("text", "special")):
        found = [tokenizer.encode(text, bool(parse)) for text in texts]
        out[f"{name}/{label}"] = oracle.checksums(found)
        print(f"{name}/{label}: {count} strings, {sum(map(len, found))} tokens")


def decoded(tokenizer: LlamaCpp, name: str, out: dict[str, Any]) -> None:
    found = [tokenizer.decode(ids) for ids in strings.sequences(tokenizer.size)]
    out[f"{name}/decode"] = np.array([oracle.text_checksum(text) for text in found], np.uint32)
    damaged = sum("\ufffd" in text for text in found)
    print(f"{name}/decode: {len(found)} sequences, {damaged} of them not UTF-8")


def disagreements(tokenizer: LlamaCpp, source: Metadata, count: int) -> list[str]:
    """Strings that llama.cpp and SentencePiece encode differently."""
    second = sentencepiece_of(source)
    return [
        text
        for text in strings.strings(count)
        if list(second.encode(text)) != tokenizer.encode(text, parse_special=False)
    ]


def explained(name: str, texts: list[str]) -> tuple[str, str]:
    literal = sum("\u2581" in text and "  " in text.replace("\u2581", " ") for text in texts)
    why = "a U+2581 in a run of spaces, which only SentencePiece takes for a space"
    return name, f"{len(texts)} strings, {literal} of them with {why}"


def version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def main() -> None:
    paths = {name: Path(path) for name, _, path in (each.partition("=") for each in sys.argv[1:])}
    out: dict[str, Any] = {}
    differ: dict[str, list[str]] = {}
    for name, path in paths.items():
        tokenizer = LlamaCpp(path)
        encoded(tokenizer, name, strings.NUM_STRINGS, out)
        decoded(tokenizer, name, out)
        if "tokenizer.ggml.scores" in (source := metadata(path)):
            differ[name] = disagreements(tokenizer, source, strings.NUM_STRINGS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocabulary.gguf"
        small = trained()
        write_vocabulary(file, small)
        tokenizer = LlamaCpp(file)
        encoded(tokenizer, "pieces", oracle.NUM_SMALL_STRINGS, out)
        decoded(tokenizer, "pieces", out)
        differ["pieces"] = disagreements(tokenizer, small, oracle.NUM_SMALL_STRINGS)
        small_bytes = trained_bytes()
        for name in oracle.FAMILIES:
            write_vocabulary(file, small_bytes | {"tokenizer.ggml.pre": name})
            encoded(LlamaCpp(file), f"bytes {name}", oracle.NUM_SMALL_STRINGS, out)
    out["pieces metadata"] = np.array(json.dumps(small))
    out["bytes metadata"] = np.array(json.dumps(small_bytes))
    provenance = {
        "made by": "scripts/make_tokenizer_fixture.py",
        "oracles": [version("llama-cpp-python"), version("sentencepiece"), version("gguf")],
        "python": platform.python_version(),
        "models": {
            name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()
        },
        "strings": oracle.whole(strings.strings()),
        "llama.cpp and SentencePiece disagree": dict(starmap(explained, differ.items())),
    }
    out["provenance"] = np.array(json.dumps(provenance))
    np.savez_compressed(oracle.PATH, **out)
    for name, texts in differ.items():
        print(f"{name}: the two oracles disagree on {len(texts)} strings")
    print(f"{oracle.PATH}: {oracle.PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
