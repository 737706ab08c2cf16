"""Data from a text into a schema: whatever the text says, what comes out is JSON that fits.

plait program examples/extraction.py "Mia Stone, 34, a nurse, moved from Oslo to Lima; Tom Hale, a pilot of 29, lives in Cork."
"""

from __future__ import annotations

from typing import Any

from plait.programs.lm import Prompt

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "city": {"type": "string", "maxLength": 40},
        "job": {"enum": ["nurse", "teacher", "baker", "pilot", "lawyer", "other"]},
    },
    "required": ["name", "age", "city", "job"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": PERSON, "maxItems": 8}
SHOTS = """Text: In Rome we met Ada Moretti, who is 41 and bakes bread for a living.
JSON: [{"name":"Ada Moretti","age":41,"city":"Rome","job":"baker"}]

Text: The pilot, Tom Hale from Cork, turned 29 last week. At 62, Eva Lund of Oslo still teaches.
JSON: [{"name":"Tom Hale","age":29,"city":"Cork","job":"pilot"},{"name":"Eva Lund","age":62,"city":"Oslo","job":"teacher"}]

"""


def question(text: str) -> str:
    """The prompt up to the JSON."""
    return f"{SHOTS}Text: {text}\nJSON:"


async def main(p: Prompt, text: str) -> list[dict[str, Any]]:
    """Who are they, how old, where, and what do they do?"""
    p += f"{question(text)} "
    found: list[dict[str, Any]] = await p.json(SCHEMA)
    return found
