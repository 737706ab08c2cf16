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
from oracle_model import build
from transformers import AutoTokenizer, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
PROMPTS = FIXTURES / "oracle" / "prompts.json"
TEXT = FIXTURES / "text" / "english.txt"
NUM_TOP, NUM_RANDOM, NUM_GREEDY = 64, 192, 128
WINDOW, NUM_WINDOWS = 512, 40
SEED = 20_240


class Answer(NamedTuple):
    """What is recorded for one prompt; P = 3 positions, G = 128 steps."""

    positions: np.ndarray  # int32 [P]
    top_ids: np.ndarray  # int32 [P, 64], best first
    top_logits: np.ndarray  # float32 [P, 64]
    random_ids: np.ndarray  # int32 [P, 192]
    random_logits: np.ndarray  # float32 [P, 192]
    logsumexp: np.ndarray  # float64 [P]
    greedy_ids: np.ndarray  # int32 [G]
    greedy_logits: np.ndarray  # float32 [G]
    greedy_second_ids: np.ndarray  # int32 [G]
    greedy_margins: np.ndarray  # float32 [G]


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


def answer(model: PreTrainedModel, ids: list[int], seed: int) -> Answer:
    """Logits at three positions, then 128 greedy tokens, past any end token too."""
    positions = np.array([len(ids) // 3, 2 * len(ids) // 3, len(ids) - 1], dtype=np.int32)
    cache = DynamicCache(config=model.config)
    out = model(
        torch.tensor([ids]),
        past_key_values=cache,
        logits_to_keep=torch.from_numpy(positions).long(),
    )
    rows = rows_of(out.logits[0], seed)
    row, steps = out.logits[0, -1], []
    for step in range(NUM_GREEDY):
        best = torch.topk(row, 2)
        steps.append((*best.indices.tolist(), *best.values.tolist()))
        if step + 1 < NUM_GREEDY:
            row = model(best.indices[:1].view(1, 1), past_key_values=cache).logits[0, -1]
    first, second, logit, runner_up = (np.array(column) for column in zip(*steps, strict=True))
    return Answer(
        positions=positions,
        **rows,
        greedy_ids=first.astype(np.int32),
        greedy_logits=logit.astype(np.float32),
        greedy_second_ids=second.astype(np.int32),
        greedy_margins=(logit - runner_up).astype(np.float32),
    )


def cache_error(model: PreTrainedModel, ids: list[int], result: Answer) -> float:
    """Largest difference of a greedy step's best logit between the cached and one whole forward."""
    whole = torch.tensor([[*ids, *result.greedy_ids[:-1].tolist()]])
    logits = model(whole, use_cache=False, logits_to_keep=NUM_GREEDY).logits[0]
    picked = logits.gather(1, torch.from_numpy(result.greedy_ids).long()[:, None])[:, 0]
    return float(np.abs(picked.numpy() - result.greedy_logits).max())


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


def provenance(model_name: str, gguf_path: Path, extra: dict[str, Any]) -> np.ndarray:
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
        **extra,
    }
    return np.array(json.dumps(record, sort_keys=True))


def stack(results: list[Answer], prompts: list[list[int]]) -> dict[str, np.ndarray]:
    """All prompts' answers as arrays with the prompt as first axis."""
    arrays = {field: np.stack([getattr(r, field) for r in results]) for field in Answer._fields}
    arrays["prompt_ids"] = np.array([token for ids in prompts for token in ids], dtype=np.int32)
    arrays["prompt_offsets"] = np.cumsum([0, *map(len, prompts)]).astype(np.int32)
    return arrays


@torch.inference_mode()
def main() -> None:
    """Runs the model over every prompt, one after the other, and writes the fixture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of the fixture")
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--perplexity", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)  # one thread never waits at a barrier on a busy machine
    model = build(options.gguf)
    tokenizer = AutoTokenizer.from_pretrained(options.gguf.parent, gguf_file=options.gguf.name)
    entries = json.loads(PROMPTS.read_text(encoding="utf-8"))["prompts"]
    prompts = [prompt_ids(entry, tokenizer) for entry in entries]
    results, began = [], time.monotonic()
    for number, (entry, ids) in enumerate(zip(entries, prompts, strict=True)):
        result = answer(model, ids, SEED + number)
        results.append(result)
        seconds, text = time.monotonic() - began, tokenizer.decode(result.greedy_ids[:40].tolist())
        print(
            f"{seconds:7.0f} s {entry['name']} ({len(ids)}): {text!r}", file=sys.stderr, flush=True
        )
    longest = max(range(len(prompts)), key=lambda index: len(prompts[index]))
    extra: dict[str, Any] = {
        "prompts": [entry["name"] for entry in entries],
        "cached_vs_whole_max_abs": {
            entries[index]["name"]: cache_error(model, prompts[index], results[index])
            for index in (0, longest)
        },
    }
    arrays = stack(results, prompts)
    if options.perplexity:
        arrays |= perplexity(model, tokenizer)
    arrays["provenance"] = provenance(options.model, options.gguf, extra)
    target = FIXTURES / "oracle" / f"{options.model}.npz"
    np.savez_compressed(target, **arrays)
    print(f"{target.name}: {target.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
