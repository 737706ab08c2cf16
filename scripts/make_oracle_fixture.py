"""Writes tests/fixtures/oracle/<model>.npz: what transformers says about a GGUF file.

    python scripts/make_oracle_fixture.py smollm2-135m path/to/file.gguf [--perplexity]

Needs the `oracle` extra. tests/fixtures/oracle/README.md describes every array of the result.
"""

import argparse
import hashlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from oracle_continuation import NUM_GREEDY, Continuation, continue_one, guess_together
from oracle_model import build
from transformers import AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
PROMPTS = FIXTURES / "oracle" / "prompts.json"
TEXT = FIXTURES / "text" / "english.txt"
NUM_TOP, NUM_RANDOM = 64, 192
WINDOW, NUM_WINDOWS = 512, 40
SEED = 20_240


class Prefilled(NamedTuple):
    """A prompt after its forward: recorded arrays, KV cache, logits [vocabulary] of its end."""

    arrays: dict[str, np.ndarray]
    cache: DynamicCache
    last_row: torch.Tensor


def prompt_ids(entry: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of one entry of prompts.json."""
    text = entry.get("text")
    if text is None:
        start, length = entry["excerpt"]
        passage = TEXT.read_text(encoding="utf-8")[start : start + length]
        text = entry["before"] + passage + entry["after"]
    if entry["kind"] == "chat":
        text = (
            f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
            if "<|im_start|>" in tokenizer.get_vocab()
            else f"User: {text}\nAssistant:"
        )
    return list(tokenizer.encode(text))


def rows_of(logits: torch.Tensor, seed: int) -> dict[str, np.ndarray]:
    """The recorded part of float32 logits [P, vocabulary]."""
    rng = np.random.default_rng(seed)
    random_ids = np.stack(
        [np.sort(rng.choice(logits.shape[1], NUM_RANDOM, replace=False)) for _ in logits]
    )
    top = torch.topk(logits, NUM_TOP, dim=-1)
    return {
        "top_ids": top.indices.numpy().astype(np.int32),
        "top_logits": top.values.numpy(),
        "random_ids": random_ids.astype(np.int32),
        "random_logits": np.take_along_axis(logits.numpy(), random_ids, axis=1),
        "logsumexp": torch.logsumexp(logits.double(), dim=-1).numpy(),
    }


def prefill(model: PreTrainedModel, ids: list[int], seed: int) -> Prefilled:
    """One forward over the prompt; logits at a third, two thirds and the end."""
    positions = np.array([len(ids) // 3, 2 * len(ids) // 3, len(ids) - 1], dtype=np.int32)
    cache = DynamicCache(config=model.config)
    out = model(
        torch.tensor([ids]),
        past_key_values=cache,
        logits_to_keep=torch.from_numpy(positions).long(),
    )
    arrays = {"positions": positions, **rows_of(out.logits[0], seed)}
    return Prefilled(arrays, cache, out.logits[0, -1].clone())


def guesses(model: PreTrainedModel, prompts: list[Prefilled]) -> list[Continuation]:
    """A guess for every prompt, made in two batches: short prompts and long ones."""
    found: dict[int, Continuation] = {}
    for is_long in (False, True):
        group = [
            index
            for index, prompt in enumerate(prompts)
            if (prompt.cache.get_seq_length() > WINDOW) == is_long
        ]
        firsts = [int(prompts[index].last_row.argmax()) for index in group]
        batch = guess_together(model, [prompts[index].cache for index in group], firsts)
        found.update(zip(group, batch, strict=True))
    return [found[index] for index in range(len(prompts))]


def whole_forward(model: PreTrainedModel, ids: list[int], greedy: Continuation) -> torch.Tensor:
    """Best logits of the steps [G] again, from one forward over everything without a cache."""
    whole = torch.tensor([[*ids, *greedy.ids[:-1, 0].tolist()]])
    logits = model(whole, use_cache=False, logits_to_keep=NUM_GREEDY).logits[0]
    return logits.gather(1, greedy.ids[:, :1])[:, 0]


def greedy_arrays(greedy: Continuation, again: torch.Tensor) -> dict[str, np.ndarray]:
    """The recorded part of a continuation; `again` is the same best logits, computed otherwise."""
    logits = greedy.logits.numpy()
    return {
        "greedy_ids": greedy.ids[:, 0].numpy().astype(np.int32),
        "greedy_second_ids": greedy.ids[:, 1].numpy().astype(np.int32),
        "greedy_logits": logits[:, 0],
        "greedy_margins": logits[:, 0] - logits[:, 1],
        "greedy_noise": np.abs(again.numpy() - logits[:, 0]),
    }


def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """Windows of 512 tokens, each a fresh context without BOS; positions 1..511 are scored."""
    ids = tokenizer.encode(TEXT.read_text(encoding="utf-8"), add_special_tokens=False)
    windows = torch.tensor(ids[: WINDOW * NUM_WINDOWS]).view(NUM_WINDOWS, WINDOW)
    nll = []
    for window in windows:
        scores = model(window[None], use_cache=False).logits[0, :-1].double()
        nll.append(float(torch.nn.functional.cross_entropy(scores, window[1:])))
    return {
        "perplexity_ids": windows.numpy().astype(np.int32),
        "perplexity_window_nll": np.array(nll),
        "perplexity": np.array(np.exp(np.mean(nll))),
    }


def provenance(
    model_name: str, gguf_path: Path, prompts: list[str], is_guessing: bool
) -> np.ndarray:
    """How the file came to be, as one JSON string."""
    with gguf_path.open("rb") as file:
        model_hash = hashlib.file_digest(file, "sha256").hexdigest()
    names = ("torch", "transformers", "gguf", "tokenizers", "numpy")
    record = {
        "script": "scripts/make_oracle_fixture.py",
        "model": model_name,
        "model_sha256": model_hash,
        "dtype": "float32",
        "attention": "eager",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in names},
        "seed": SEED,
        "text_sha256": hashlib.sha256(TEXT.read_bytes()).hexdigest(),
        "prompts": prompts,
        "continuation": "guessed in a batch, verified" if is_guessing else "token by token",
    }
    return np.array(json.dumps(record, sort_keys=True))


def stack(answers: list[dict[str, np.ndarray]], prompts: list[list[int]]) -> dict[str, np.ndarray]:
    """All prompts' answers as arrays with the prompt as first axis."""
    arrays = {name: np.stack([one[name] for one in answers]) for name in answers[0]}
    arrays["prompt_ids"] = np.array([token for ids in prompts for token in ids], dtype=np.int32)
    arrays["prompt_offsets"] = np.cumsum([0, *map(len, prompts)]).astype(np.int32)
    return arrays


def answers_of(
    model: PreTrainedModel,
    prompts: list[list[int]],
    tokenizer: PreTrainedTokenizerBase,
    is_guessing: bool,
) -> list[dict[str, np.ndarray]]:
    """Every array of every prompt; progress and the beginnings of the answers go to stderr."""
    filled = [prefill(model, ids, SEED + number) for number, ids in enumerate(prompts)]
    guessed = guesses(model, filled) if is_guessing else [None] * len(filled)
    answers, began = [], time.monotonic()
    for ids, prompt, guess in zip(prompts, filled, guessed, strict=True):
        greedy = continue_one(model, prompt.cache, prompt.last_row, guess)
        again = whole_forward(model, ids, greedy)
        answers.append(prompt.arrays | greedy_arrays(greedy, again))
        text = tokenizer.decode(greedy.ids[:40, 0].tolist())
        print(
            f"{time.monotonic() - began:7.0f} s ({len(ids)}): {text!r}", file=sys.stderr, flush=True
        )
    return answers


@torch.inference_mode()
def main() -> None:
    """Runs the model over every prompt and writes the fixture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of the fixture")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--perplexity", action="store_true")
    parser.add_argument("--guess", action="store_true", help="guess continuations in a batch first")
    options = parser.parse_args()
    torch.set_num_threads(1)  # one thread never waits at a barrier on a busy machine
    model = build(options.gguf)
    tokenizer = AutoTokenizer.from_pretrained(options.gguf.parent, gguf_file=options.gguf.name)
    entries = json.loads(PROMPTS.read_text(encoding="utf-8"))["prompts"]
    prompts = [prompt_ids(entry, tokenizer) for entry in entries]
    arrays = stack(answers_of(model, prompts, tokenizer, options.guess), prompts)
    if options.perplexity:
        arrays |= perplexity(model, tokenizer)
    names = [entry["name"] for entry in entries]
    arrays["provenance"] = provenance(options.model, options.gguf, names, options.guess)
    target = FIXTURES / "oracle" / f"{options.model}.npz"
    np.savez_compressed(target, **arrays)
    print(f"{target.name}: {target.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
