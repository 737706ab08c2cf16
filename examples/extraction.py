"""Data from a text into a schema: whatever the text says, what comes out is JSON that fits.

plait program examples/extraction.py "Mia Stone, 34, moved from Oslo to Lima for 2,500 a month."
"""

from __future__ import annotations

from typing import Any

from plait.programs.lm import Prompt

SCHEMA = {
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
SHOTS = """Text: In Rome we met Ada Moretti, who is 41 and bakes bread for a living.
JSON: {"name":"Ada Moretti","age":41,"city":"Rome","job":"baker"}

Text: The pilot, Tom Hale from Cork, turned 29 last week.
JSON: {"name":"Tom Hale","age":29,"city":"Cork","job":"pilot"}

"""


def question(text: str) -> str:
    """The prompt up to the JSON."""
    return f"{SHOTS}Text: {text}\nJSON:"


async def main(p: Prompt, text: str) -> dict[str, Any]:
    """Who is it, how old, where, and what do they do?"""
    p += f"{question(text)} "
    found: dict[str, Any] = await p.json(SCHEMA)
    return found
