"""Classification with calibrated probabilities (arXiv:2102.09690).

    plait program examples/classification.py "The soup was cold and the waiter rude." --json

How probable a class is says as much about the prompt as about the text: some words are likely whatever is asked. So
the same prompt is asked about texts that say nothing, and the probabilities are divided by what comes out there. Both
go on from one state: the examples are computed once.
"""

from __future__ import annotations

import asyncio

from plait.programs.lm import Prompt

CLASSES = ["positive", "negative"]
SHOTS = """Review: I would watch it again tomorrow.
Sentiment: positive

Review: Two hours of my life that I will never get back.
Sentiment: negative

"""
EMPTY = ("N/A", "[MASK]", "...")
"""Texts that say nothing."""


async def main(p: Prompt, text: str) -> dict[str, float]:
    """How probable each sentiment is, corrected for what the prompt alone suggests."""
    p += SHOTS
    said, *nothing = await asyncio.gather(*(classify(p.fork(), one) for one in (text, *EMPTY)))
    prior = {one: sum(found[one] for found in nothing) / len(nothing) for one in CLASSES}
    weights = {one: said[one] / prior[one] for one in CLASSES}
    return {one: weight / sum(weights.values()) for one, weight in weights.items()}


async def classify(p: Prompt, text: str) -> dict[str, float]:
    """As the model sees it."""
    p += f"Review: {text}\nSentiment: "
    return (await p.distribution(CLASSES)).probabilities
