"""Whether to draft, with which proposer and how much; and what came of it.

Of the proposers the one that promises most goes first. What they promise follows from how often their guesses of this
kind were right in this request lately (in others, as long as nothing is known of it) and from what forwards of each
size take (width.py, company.py). Where none pays nothing is drafted; trying out whether that has changed may take a
hundredth of the time (`Company.spare`), so that text which nobody can guess costs no more than that.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from plait.core.sequence import Sequence
from plait.iteration.company import Company
from plait.iteration.width import Plan, Record, best, planned
from plait.proposers.base import Proposer

BEGIN = {
    "draft": Record(3.0, 4.0),
    "heads": Record(1.0, 4.0),
    "lookahead after 1": Record(1.0, 4.0),
    "lookahead in corpus": Record(0.7, 4.0),
}
"""What is expected of a proposer, or of its guesses of some kind, before anything is known of them; the last name that
fits counts."""
BEGIN_OTHER = Record(2.0, 4.0)
HOT = 1.0
"""Above this temperature, less is expected, in proportion: few guesses can be right then, and to find out how few with
a draft model means that it reads the whole prompt."""
BEGIN_TRIALS = 4.0
"""What was seen in other requests counts for so many trials in a new one."""
FORGET_OTHERS = 0.97
TRY, TRY_WIDTH = 32, 2
"""A proposer that does not pay is tried again after so many tokens at the earliest, with so short a draft."""
SURE_GAIN = 1.02
"""What a draft has to promise: times are not known better than that."""
STALE = 16
"""Tokens after which a plan is made anew, even if nothing has been drafted meanwhile."""


HEAT, MOST_HEAT = 0.5, 6
"""Temperatures are told apart in steps, so many of them."""


class Ask(NamedTuple):
    """A draft that a proposer is asked for. key: of its record. is_trial: it does not promise to pay."""

    name: str
    key: str
    plan: Plan
    is_trial: bool = False


class _Made(NamedTuple):
    """A plan, with what it was made for."""

    plan: Plan
    length: int
    room: int
    num_running: int


def fixed(seq: Sequence, name: str, proposer: Proposer, width: int, company: Company) -> Ask:
    """A draft of a width that somebody else has chosen."""
    key = _key(seq, name, proposer.kind(seq) or "")
    record = record_of(seq, key, company)
    return Ask(name, key, planned(record, width, company, seq.length, proposer.seconds))


def choose(seq: Sequence, name: str, proposer: Proposer, room: int, company: Company) -> Ask | None:
    """What to ask of a proposer, at most `room` >= 1 tokens; None: nothing."""
    kind = proposer.kind(seq)
    if kind is None:
        return None
    key = _key(seq, name, kind)
    plan = _plan(seq, key, proposer, room, company)
    behind = proposer.catch_up_seconds(seq)
    if plan.gain > SURE_GAIN and _pays_back(seq, plan, behind):
        both = plan._replace(seconds=plan.seconds + behind, draft=plan.draft + behind)
        return Ask(name, key, both)
    return _trial(seq, name, key, proposer, room, company)


def _key(seq: Sequence, name: str, kind: str) -> str:
    """Of the record of such guesses. The hotter a request samples, the seldomer a guess can be right, and what others
    came to at another temperature says nothing of it."""
    heat = min(ceil(seq.params.temperature / HEAT), MOST_HEAT) * HEAT
    return " ".join(filter(None, (name, kind, f"up to temperature {heat:g}" if heat else "")))


def _plan(seq: Sequence, key: str, proposer: Proposer, room: int, company: Company) -> Plan:
    made: _Made | None = seq.memo.get(f"plan of {key}")
    if made is None or made[2:] != (room, company.num_running) or seq.length >= made.length + STALE:
        record = record_of(seq, key, company)
        plan = best(record, room, company, seq.length, proposer.seconds)
        made = _Made(plan, seq.length, room, company.num_running)
        seq.memo[f"plan of {key}"] = made
        note = f"{key}: {record.rate:.0%} right lately, {_words(plan)}"
        seq.metrics.draft_notes[key] = note
    return made.plan


def _words(plan: Plan) -> str:
    verdict = f"{plan.width} at once" if plan.gain > SURE_GAIN else f"off, for even {plan.width}"
    return (
        f"{verdict}: {plan.tokens:.2f} tokens in {1e3 * plan.seconds:.1f} ms, "
        f"{plan.gain:.2f}x of one in {1e3 * plan.plain:.1f} ms"
    )


def _pays_back(seq: Sequence, plan: Plan, behind: float) -> bool:
    """Whether what is left of the answer, at most, gains more than catching up with it costs: everybody waits for that,
    and each of the steps that are left gains the same for the whole company."""
    if not behind:
        return True
    steps = (seq.limit - seq.length) / plan.tokens
    return steps * plan.seconds * (plan.gain - 1) > behind


def _trial(
    seq: Sequence, name: str, key: str, proposer: Proposer, room: int, company: Company
) -> Ask | None:
    if seq.length < seq.memo.get(f"tried {key}", seq.prompt_length) + TRY:
        return None
    record = record_of(seq, key, company)
    width = min(TRY_WIDTH, room)
    plan = planned(record, width, company, seq.length, proposer.seconds)
    price = plan.seconds - plan.plain + proposer.catch_up_seconds(seq)
    if price > company.spare:
        return None
    company.spare -= price
    seq.memo[f"tried {key}"] = seq.length
    return Ask(name, key, plan, is_trial=True)


def record_of(seq: Sequence, key: str, company: Company) -> Record:
    """How often guesses of this kind were right."""
    known: Record | None = seq.memo.get(f"record of {key}")
    if known is not None:
        return known
    others = company.known.get(key)
    if others is not None:
        return Record(*others).weighing(BEGIN_TRIALS)
    return _begin(key, seq.params.temperature)


def _begin(key: str, temperature: float) -> Record:
    own = [record for name, record in BEGIN.items() if f"{key} ".startswith(f"{name} ")]
    hits, trials, _ = own[-1] if own else BEGIN_OTHER
    return Record(hits / max(1.0, temperature / HOT), trials)


def learn(
    seq: Sequence, ask: Ask, proposer: Proposer, proposed: int, accepted: int, company: Company
) -> None:
    """Take into account what became of a draft; proposed: 0 if the proposer had nothing to say."""
    asked = ask.plan.width if proposer.seconds else 0
    if not (proposed or asked):
        return
    key = ask.key
    seq.memo[f"record of {key}"] = record_of(seq, key, company).after(proposed, accepted, asked)
    others = Record(*company.known.get(key, record_of(seq, key, company)))
    company.known[key] = others.after(proposed, accepted, asked, FORGET_OTHERS)
    seq.memo.pop(f"plan of {key}", None)


def account(seq: Sequence, written: int, plan: Plan | None, company: Company) -> None:
    """Note what plain decoding would have taken for the tokens of a forward, and what was expected of it.

    All who share the forward wait for the rows that any of them drafted, so each bears its share of the whole.
    """
    times, others = seq.metrics, company.num_running
    plain = company.seconds(others, seq.length)
    forward = max(plain, company.seconds(others + company.num_drafted, seq.length))
    times.plain_seconds += written * plain
    times.expected_plain_seconds += (plan.tokens if plan else 1.0) * plain / others
    times.expected_seconds += forward / others + (plan.draft if plan else 0.0)
    company.allow(written * plain / others)
