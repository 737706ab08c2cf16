"""ReAct: the model thinks, calls a tool, reads what it says, and so on, until it answers.

    plait program examples/react.py "How many days are 3 fortnights?" --text

Its tools are a calculator and a dictionary. An action is always one that exists: its name is chosen from three, and
what stands in the brackets fits the tool.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

from plait.programs.lm import Prompt, integer, one_of, regex

DICTIONARY = {
    "dozen": "12 things",
    "score": "20 things",
    "gross": "144 things",
    "fortnight": "14 days",
    "decade": "10 years",
    "furlong": "220 yards",
    "fathom": "6 feet",
    "ream": "500 sheets",
}
SHOTS = """Question: How many eggs are in 4 dozen?
Thought: I need to know how many a dozen is.
Action: look up [dozen]
Observation: 12 things
Thought: I have to multiply 4 by 12.
Action: calculate [4*12]
Observation: 48
Thought: I know the answer.
Action: answer [48]

Question: How many years are 7 decades?
Thought: I need to know how long a decade is.
Action: look up [decade]
Observation: 10 years
Thought: I have to multiply 7 by 10.
Action: calculate [7*10]
Observation: 70
Thought: I know the answer.
Action: answer [70]

"""
ACTIONS = ("look up", "calculate", "answer")
EXPRESSION = r"[0-9+\-*/(). ]{1,40}"
MOST_STEPS = 5
_OPERATORS: dict[type[ast.AST], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> str:
    """The value of an expression of numbers, + - * / and brackets, exactly; what is wrong with it otherwise."""
    try:
        value = _value(ast.parse(expression.strip()[:80], mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError) as error:
        return f"no number: {type(error).__name__}"
    return str(value) if value.denominator == 1 else f"{float(value):.6g}"


def look_up(word: str) -> str:
    """What the dictionary says."""
    return DICTIONARY.get(word, "not in the dictionary")


async def main(p: Prompt, question: str) -> int | None:
    """Answer a question with a calculator and a dictionary; None if that takes too many steps."""
    p += f"{SHOTS}Question: {question}\n"
    for _ in range(MOST_STEPS):
        p += "Thought: "
        await p.gen(stops_before="\n", max_tokens=40)
        p += "\nAction: "
        action = await p.select(ACTIONS)
        p += " ["
        if action == "answer":
            found = await p.gen(int, integer(0, 10**9), stops_before="]")
            p += "]\n"
            return found
        if action == "calculate":
            told = calculate(await p.gen(regex(EXPRESSION), stops_before="]", max_tokens=24))
        else:
            told = look_up(await p.gen(one_of(list(DICTIONARY)), stops_before="]"))
        p += f"]\nObservation: {told}\n"
    return None


def _value(node: ast.AST) -> Fraction:
    """Raises ValueError for everything but arithmetic."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("only numbers, + - * / and brackets")
