"""Chain of thought with a constrained answer: which word does not belong to the others.

    plait program examples/chain_of_thought.py "skirt, dress, pen, jacket"

The model may think as it likes, up to the end of a line; the answer can only be one of the words.
"""

from __future__ import annotations

from plait.programs.lm import Prompt

SHOTS = """Pick the odd word out: skirt, dress, pen, jacket
skirt is clothing, dress is clothing, pen is a tool, jacket is clothing. So the odd one is pen.

Pick the odd word out: Spain, France, German, England
Spain is a country, France is a country, German is a language, England is a country. So the odd one is German.

Pick the odd word out: hammer, apple, pear, cherry
hammer is a tool, apple is a fruit, pear is a fruit, cherry is a fruit. So the odd one is hammer.

"""
ANSWER = "So the odd one is"


def question(words: list[str]) -> str:
    """The prompt up to the model's thoughts."""
    return f"{SHOTS}Pick the odd word out: {', '.join(words)}\n"


async def main(p: Prompt, words: list[str]) -> str:
    """Which of these words does not belong to the others?"""
    p += question(words)
    await p.gen(stops_before=(ANSWER, "\n"), max_tokens=60)
    p += f"{ANSWER} "
    return await p.select(words)
