"""What int8 activations (with f16 and with int8 K/V) cost: perplexity and top-1 agreement on a fixed text.

    python benchmarks/accuracy.py smollm2-135m

The text is tests/fixtures/text (20,480 tokens of SmolLM2; for other models re-tokenised), in windows of 512
without overlap, each a fresh context; positions 1 to 511 of each are scored. Writes benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.oracle import open_model, rows  # noqa: E402

from plait.text.tokenizer import Tokenizer  # noqa: E402  (the tests' helpers need the path above)
from plait.weights import hub  # noqa: E402
from plait.weights.open import open_checkpoint  # noqa: E402

WINDOW = 512
TEXT = HERE.parent / "tests" / "fixtures" / "text" / "english.txt"


def windows(tokenizer: Tokenizer, count: int) -> np.ndarray:
    """int32 [count, 512]."""
    ids = tokenizer.encode(TEXT.read_text(encoding="utf-8"), add_special=False)
    count = min(count, len(ids) // WINDOW)
    return np.array(ids[: count * WINDOW], np.int32).reshape(count, WINDOW)


def score(model: str, activations: str, kv: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(negative log-likelihood, argmax) of every scored position, [windows, 511] each."""
    loaded = open_model(model, activations, kv=kv)
    with open_checkpoint(hub.resolve(model)) as checkpoint:
        tokenizer = Tokenizer.from_source(checkpoint.tokenizer_source)
    losses, best = [], []
    for ids in windows(tokenizer, count):
        logits = rows(loaded, ids, np.arange(WINDOW - 1)).astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(shifted).sum(axis=1))
        losses.append(total - shifted[np.arange(WINDOW - 1), ids[1:]])
        best.append(logits.argmax(axis=1))
    loaded.close()
    return np.array(losses), np.array(best)


def measure(model: str, count: int) -> dict[str, Any]:
    exact, exact_best = score(model, "f32", "f32", count)
    fast, fast_best = score(model, "int8", "f16", count)
    small, small_best = score(model, "int8", "int8", count)
    f32, int8, int8_kv = (float(np.exp(losses.mean())) for losses in (exact, fast, small))
    return {
        "model": model,
        "tokens_scored": int(exact.size),
        "perplexity_f32": round(f32, 5),
        "perplexity_int8": round(int8, 5),
        "perplexity_increase_percent": round(100 * (int8 / f32 - 1), 4),
        "top1_agreement_percent": round(100 * float((exact_best == fast_best).mean()), 3),
        "perplexity_int8_kv": round(int8_kv, 5),
        "perplexity_increase_of_int8_kv_percent": round(100 * (int8_kv / int8 - 1), 4),
        "top1_agreement_of_int8_kv_percent": round(
            100 * float((fast_best == small_best).mean()), 3
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--windows", type=int, default=60, help="at most this many windows of 512")
    args = parser.parse_args()
    for model in args.models:
        result = {**measure(model, args.windows), "date": time.strftime("%Y-%m-%d")}
        (HERE / "results" / f"accuracy-{model}.json").write_text(
            json.dumps(result, indent=1) + "\n"
        )
        print(json.dumps(result))


if __name__ == "__main__":
    main()
