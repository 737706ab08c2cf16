"""Programs of examples/ against the same tasks done with separate calls: what is billed, and how often it is right.

    .venv/bin/python benchmarks/programs.py [MODEL] [--items N]

The other way is the one that LMQL's paper measures against (arXiv:2212.06094): an interface that only continues a text.
It writes a chunk of tokens, looks whether what it waits for has come, and asks for the next chunk with all that was said
so far, since the interface keeps no state. What is no answer is asked for again, at a temperature, up to three times.

Items are made from a seed. Billable tokens: prompt and answer of every call; a program is one call, so that each token
of its prompt is billed once. `resent` is what the program's own requests would be billed without a state kept. Both ways
run on the same engine, greedily; results go to benchmarks/results/programs-<model>.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from plait.core.params import SamplingParams
from plait.llm import LLM
from plait.programs.lm import run_many
from plait.programs.lm.script import load

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 30
TRIES = 3


@dataclass
class Bill:
    """Calls and billable tokens of one item."""

    calls: int = 0
    tokens: int = 0


class Item(NamedTuple):
    """asked: the program's arguments. right: what it should say."""

    asked: tuple[Any, ...]
    right: Any


class Plain:
    """An interface that continues texts."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.bill = Bill()

    async def go_on(self, text: str, size: int = CHUNK, *, turn: int = 0) -> str:
        """What the model says next, up to so many tokens. turn: above 0 it draws."""
        tokenizer = self._llm.tokenizer
        ids = tokenizer.encode(text)
        params = SamplingParams(max_tokens=size, temperature=0.7 if turn else 0.0, seed=turn)
        said: list[int] = []
        async with self._llm.worker.stream_async(ids, params) as events:
            async for event in events:
                said += event.token_ids
        self.bill.calls += 1
        self.bill.tokens += len(ids) + len(said)
        return tokenizer.decode(said)

    async def until(self, text: str, stops: tuple[str, ...], most: int) -> str:
        """What it says up to one of these texts, chunk by chunk."""
        said = ""
        for _ in range(-(-most // CHUNK)):
            more = await self.go_on(text + said)
            said += more
            places = [said.find(stop) for stop in stops if stop in said]
            if places or not more:
                return said[: min(places)] if places else said
        return said

    async def parsed(self, text: str, read: Callable[[str], Any], size: int = CHUNK) -> Any:
        """The first of a few answers that something can be made of; None if nothing can be made of any."""
        for turn in range(TRIES):
            found = read(await self.go_on(text, size, turn=turn))
            if found is not None:
                return found
        return None


def module(name: str) -> dict[str, Any]:
    """What a program's file defines."""
    defined: dict[str, Any] = load(ROOT / "examples" / f"{name}.py").program.__globals__
    return defined


COT, REACT, JSON = module("chain_of_thought"), module("react"), module("extraction")
FORM = module("dialogue")


async def plain_chain_of_thought(p: Plain, words: list[str]) -> str | None:
    text = COT["question"](words)
    text += await p.until(text, (COT["ANSWER"], "\n"), 60)

    def read(said: str) -> str | None:
        return next((word for word in words if said.strip().startswith(word)), None)

    found: str | None = await p.parsed(f"{text}{COT['ANSWER']}", read, 8)
    return found


async def plain_react(p: Plain, question: str) -> int | None:
    text = f"{REACT['SHOTS']}Question: {question}\n"
    for _ in range(REACT["MOST_STEPS"]):
        for _turn in range(TRIES):
            said = await p.until(f"{text}Thought:", ("]", "Observation"), 60)
            found = re.search(r"Action: (look up|calculate|answer) \[([^\]\n]*)$", said)
            if found:
                break
        else:
            return None
        action, inside = found.groups()
        if action == "answer":
            return int(inside) if re.fullmatch(r"\d+", inside) else None
        told = REACT["calculate" if action == "calculate" else "look_up"](inside)
        text += f"Thought:{said}]\nObservation: {told}\n"
    return None


async def plain_extraction(p: Plain, text: str) -> list[dict[str, Any]] | None:
    prompt = JSON["question"](text)
    for turn in range(TRIES):
        said = ""
        while "]" not in said and len(said) < 800:
            more = await p.go_on(prompt + said, turn=turn)
            said += more
            if not more:
                break
        try:
            found = json.loads(said[: said.find("]") + 1])
        except ValueError:
            continue
        wanted = set(JSON["PERSON"]["required"])
        if isinstance(found, list) and all(
            isinstance(one, dict) and set(one) == wanted for one in found
        ):
            return found
    return None


async def plain_dialogue(p: Plain, answers: str) -> dict[str, Any] | None:
    text, found = FORM["SHOTS"], dict[str, Any]()
    for (name, question, kind, _), said in zip(FORM["FIELDS"], answers.split("; "), strict=True):
        text += f"Waiter: {question}\nGuest: {said}\nNote: {name} ="

        def read(more: str, name: str = name, kind: type = kind) -> Any:
            line = more.partition("\n")[0].strip()
            if kind is int:
                return int(line) if line.isdecimal() else None
            return line if line in KNOWN.get(name, [line]) and line else None

        found[name] = await p.parsed(text, read, 8)
        if found[name] is None:
            return None
        text += f" {found[name]}\n"
    found["reply"] = await p.until(f"{text}Waiter:", ("\n",), 40)
    return found


KNOWN = {
    "day": ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    "table": ["window", "garden", "bar", "any"],
}
KINDS = {
    "a fruit": ["apple", "pear", "cherry", "plum", "lemon", "mango", "peach", "banana"],
    "an animal": ["horse", "cow", "sheep", "tiger", "rabbit", "goat", "lion", "dog"],
    "a tool": ["hammer", "saw", "drill", "wrench", "chisel", "shovel", "rake", "axe"],
    "clothing": ["shirt", "coat", "skirt", "hat", "glove", "sock", "scarf", "jacket"],
    "a country": ["Spain", "France", "Peru", "Kenya", "Japan", "Chile", "Egypt", "Norway"],
    "an instrument": ["violin", "piano", "flute", "drum", "harp", "trumpet", "cello", "guitar"],
}


def odd_ones(rng: random.Random) -> Item:
    most, one = rng.sample(list(KINDS), 2)
    odd = rng.choice(KINDS[one])
    words = [*rng.sample(KINDS[most], 3), odd]
    rng.shuffle(words)
    return Item((words,), odd)


UNITS = {
    "dozen": ("eggs", 12), "score": ("sheep", 20), "gross": ("pencils", 144),
    "fortnights": ("days", 14), "decades": ("years", 10), "furlongs": ("yards", 220),
    "fathoms": ("feet", 6), "reams": ("sheets", 500),
}  # fmt: skip


def sums(rng: random.Random) -> Item:
    unit = rng.choice(list(UNITS))
    count, (things, size) = rng.randint(2, 60), UNITS[unit]
    return Item((f"How many {things} are in {count} {unit}?",), count * size)


def people(rng: random.Random) -> Item:
    """One to four of them in a text."""
    texts, found = zip(*(person(rng) for _ in range(rng.randint(1, 4))), strict=True)
    return Item((" ".join(texts),), list(found))


def person(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A sentence, and what it says."""
    first = rng.choice(["Ada", "Tom", "Mia", "Leo", "Eva", "Max", "Ida", "Jon", "Zoe", "Kim"])
    last = rng.choice(
        ["Stone", "Hale", "Novak", "Silva", "Brandt", "Okoye", "Lund", "Rossi", "Meyer", "Tanaka"]
    )
    city = rng.choice(
        ["Lima", "Oslo", "Cork", "Rome", "Accra", "Kyoto", "Turin", "Porto", "Leeds", "Quito"]
    )
    job = rng.choice(["nurse", "teacher", "baker", "pilot", "lawyer"])
    name, age = f"{first} {last}", rng.randint(21, 79)
    text = rng.choice([
        f"{name}, a {job} of {age}, has lived in {city} all this time.",
        f"Last year the {job} {name} moved to {city}, at the age of {age}.",
        f"In {city} a {job} told us her story: {name} is {age} and tired.",
        f"At {age}, {name} still works as a {job} in {city}.",
    ])  # fmt: skip
    return text, {"name": name, "age": age, "city": city, "job": job}


def bookings(rng: random.Random) -> Item:
    first = rng.choice(["Ada", "Tom", "Mia", "Leo", "Eva", "Max", "Ida", "Jon", "Zoe", "Kim"])
    last = rng.choice(
        ["Stone", "Hale", "Novak", "Silva", "Brandt", "Okoye", "Lund", "Rossi", "Meyer", "Tanaka"]
    )
    day, table = rng.choice(KNOWN["day"]), rng.choice(KNOWN["table"])
    guests = rng.randint(2, 9)
    spelled = ["two", "three", "four", "five", "six", "seven", "eight", "nine"][guests - 2]
    places = {
        "window": "by the window",
        "garden": "out in the garden",
        "bar": "at the bar",
        "any": "any table will do",
    }
    said = [
        rng.choice([f"I'm {first} {last}", f"{first} {last} is my name", f"Hello, {first} {last}"]),
        rng.choice([f"on {day.lower()} at eight", f"next {day}", f"{day.lower()}, please"]),
        rng.choice([f"{spelled} of us", f"{guests} people", f"a table for {spelled}"]),
        f"{places[table]}, please",
    ]
    right = {"name": f"{first} {last}", "day": day, "guests": guests, "table": table}
    return Item(("; ".join(said),), right)


def is_right(said: Any, right: Any) -> bool:
    """Of a form its fields count."""
    if isinstance(said, dict):
        return all(said.get(name) == value for name, value in right.items())
    return bool(said == right)


TASKS: dict[str, tuple[Callable[[random.Random], Item], Callable[..., Awaitable[Any]]]] = {
    "chain_of_thought": (odd_ones, plain_chain_of_thought),
    "react": (sums, plain_react),
    "extraction": (people, plain_extraction),
    "dialogue": (bookings, plain_dialogue),
}


def items_of(make: Callable[[random.Random], Item], count: int) -> list[Item]:
    """Different ones, always the same."""
    rng, found = random.Random(7), list[Item]()
    while len(found) < count:
        item = make(rng)
        if item not in found:
            found.append(item)
    return found


async def separately(llm: LLM, call: Callable[..., Awaitable[Any]], items: list[Item]) -> list[Any]:
    """(answer, bill) of each item, many at once."""
    places = asyncio.Semaphore(16)

    async def one(item: Item) -> tuple[Any, Bill]:
        async with places:
            plain = Plain(llm)
            return await call(plain, *item.asked), plain.bill

    return list(await asyncio.gather(*map(one, items)))


def measured(llm: LLM, name: str, count: int) -> dict[str, Any]:
    """Both ways of one task."""
    make, call = TASKS[name]
    items = items_of(make, count)
    runs = run_many(llm, module(name)["main"], [item.asked for item in items], at_once=16)
    calls = asyncio.run(separately(llm, call, items))
    own, other = [run.ledger for run in runs], [bill for _, bill in calls]
    billed = sum(ledger.billable_tokens for ledger in own)
    result = {
        "items": count,
        "program": {
            "right": sum(
                is_right(run.value, item.right) for run, item in zip(runs, items, strict=True)
            ),
            "billable_tokens": billed,
            "resent": sum(ledger.resent_tokens for ledger in own),
            "requests": sum(ledger.requests for ledger in own),
            "forwards": sum(ledger.forwards for ledger in own),
            "positions": sum(ledger.positions for ledger in own),
            "forced_tokens": sum(ledger.forced_tokens for ledger in own),
        },
        "separate_calls": {
            "right": sum(
                is_right(said, item.right) for (said, _), item in zip(calls, items, strict=True)
            ),
            "billable_tokens": sum(bill.tokens for bill in other),
            "calls": sum(bill.calls for bill in other),
            "without_answer": sum(said is None for said, _ in calls),
        },
    }
    plain = sum(bill.tokens for bill in other)
    result["fewer_billable"] = round(1 - billed / plain, 4)
    result["fewer_resent"] = round(1 - sum(ledger.resent_tokens for ledger in own) / plain, 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="qwen2.5-coder-0.5b")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--task", choices=list(TASKS), action="append")
    given = parser.parse_args()
    file = ROOT / "benchmarks" / "results" / f"programs-{given.model}.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    with LLM(given.model, max_model_len=2048, proposer="none") as llm:
        for name in given.task or TASKS:
            found = results[name] = measured(llm, name, given.items)
            own, other = found["program"], found["separate_calls"]
            print(
                f"{name}: {own['billable_tokens']} billable tokens for {other['billable_tokens']} "
                f"({-found['fewer_billable']:+.0%}; without a state {-found['fewer_resent']:+.0%}), right "
                f"{own['right']} and {other['right']} of {given.items}, {other['without_answer']} without answer"
            )
            sys.stdout.flush()
            file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
