"""Sequence: one request's canvas, and Event: what the outside hears of it."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plait.core.params import SamplingParams
from plait.core.window import FinishReason, Ints, TokenLogprobs, Update


@dataclass(slots=True)
class Metrics:
    """Times in seconds (time.perf_counter) and counts of one request.

    num_first_tokens: that came at once with the first. is_lossy: drafted tokens may have been taken that plain decoding
    would not have chosen. drafts, accepted: drafted tokens, and those that were right, by place in the draft from 0.
    draft_seconds: that drafting took.
    plain_seconds: what its tokens after the first would have taken one at a time, by what such steps took.
    expected_seconds: what its forwards after the first token were expected to take, drafts included;
    expected_plain_seconds: what plain decoding takes for the tokens that were expected of them. draft_notes: by kind
    of guess, why so much or so little is drafted.
    """

    arrival_time: float = field(default_factory=time.perf_counter)
    first_scheduled_time: float | None = None
    first_token_time: float | None = None
    finished_time: float | None = None
    num_first_tokens: int = 0
    num_cached_tokens: int = 0
    num_forwards: int = 0
    num_forwarded_positions: int = 0
    num_preemptions: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    is_lossy: bool = False
    num_forced: int = 0
    drafts: Counter[int] = field(default_factory=Counter)
    accepted: Counter[int] = field(default_factory=Counter)
    draft_seconds: float = 0.0
    plain_seconds: float = 0.0
    expected_seconds: float = 0.0
    expected_plain_seconds: float = 0.0
    draft_notes: dict[str, str] = field(default_factory=dict)


class Event(NamedTuple):
    """Tokens of one request that became final in a step (never a token that may still change).

    logprobs: one per token when the request asked for them. stop_token: the id that ended the request;
    it is the last of its token_ids. error: what went wrong, with reason ERROR.
    prompt_logprobs: one per prompt token, None for the first and, with the planner 'score', for those that were
        not asked about; sent once, with the first tokens.
    metrics: only with the last event, the one that has a finish_reason.
    canvas: of a request that is watched, what stands behind its final tokens after a step that decided
        something: provisional tokens, None where a position is open. None for a request that is not.
    """

    request_id: int
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    stop_token: int | None = None
    error: str | None = None
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    metrics: Metrics | None = None
    canvas: tuple[int | None, ...] | None = None


class Sequence:
    """One request in any mode of generation.

    The canvas is `tokens[:length]`; `masked[i]` says that position i is still to be decided (never
    `token == mask id`: a prompt may contain that id). `[0, final)` can never change again and is what may
    be streamed; `[prompt_length, emitted)` has been. `limit` is the canvas length at which generation ends.
    `logprobs` maps canvas positions to what was asked for, prompt positions included; `[0, scored)` are
    the prompt positions that need no more of it (position 0 has no log-probability). `scratch` is what a
    policy has to remember; `memo` what follows from the parameters and the seed alone, worked out once.
    `edits`: written tokens are provisional, up to the end of their block (the decoder edits them).
    `ends_here`: nothing may follow what stands on the canvas (its grammar is complete); `is_closed`: its last token
    belongs to the answer no more, and only ends it. `answered`: how many tokens of the answer were there from the
    beginning, given with the prompt.
    `led_from`: from this position on nothing was the choice of the model, to end the answer before the limit.
    `is_watched`: somebody wants to see those that are not final.
    `salt` stands for whatever else than tokens its K/V depends on (an adapter), or whom it may be shared with:
    sequences with different salts never share any.
    `second`: the same answer behind another prompt, with K/V of its own, for a decoder that contrasts the two.
    """

    def __init__(
        self,
        request_id: int,
        prompt: Ints,
        params: SamplingParams,
        *,
        limit: int,
        seed: int,
        salt: str = "",
        answered: int = 0,
        scored: int = 1,
    ) -> None:
        """prompt: int32 [n], n >= 1, the last `answered` of them the beginning of the answer. limit: n + tokens to
        generate at most. seed: 64 bits."""
        self.request_id = request_id
        self.params = params
        self.prompt_length = len(prompt) - answered
        self.limit = limit
        self.seed = seed
        self.salt = salt
        self.length = len(prompt)
        self.final = len(prompt)
        self.emitted = len(prompt)
        self.answered = answered
        self.edits = self.is_watched = self.ends_here = self.is_closed = False
        self.led_from: int | None = None
        self.finish_reason: FinishReason | None = None
        self.metrics = Metrics()
        self.scored = scored
        self.logprobs: dict[int, TokenLogprobs] = {}
        self.scratch: dict[str, Any] = {}
        self.memo: dict[str, Any] = {}
        self.second: Sequence | None = None
        self._tokens: Ints = np.array(prompt, np.int32)
        self._masked: NDArray[np.bool_] = np.zeros(len(prompt), np.bool_)

    @property
    def tokens(self) -> Ints:
        """Canvas ids, int32 [length]; a view."""
        return self._tokens[: self.length]

    @property
    def masked(self) -> NDArray[np.bool_]:
        """True where a position is still to be decided, bool [length]; a view."""
        return self._masked[: self.length]

    @property
    def is_finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def is_scored(self) -> bool:
        """Whether the prompt has the log-probabilities that were asked for."""
        return self.params.prompt_logprobs is None or self.scored >= self.prompt_length

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing left to compute."""
        return self.final >= self.limit and self.is_scored

    def extend(self, count: int, token: int, *, masked: bool) -> None:
        """Grow the canvas by `count` positions holding `token`."""
        self._make_room(self.length + count)
        end = self.length + count
        self._tokens[self.length : end] = token
        self._masked[self.length : end] = masked
        self.length = end

    def apply(self, update: Update, mask_token: int = 0) -> None:
        """The only place where tokens change. Raises AssertionError when a final position would."""
        places = update.positions.tolist()
        if places:
            lowest, grown = min(places), max(places) + 1
            assert lowest >= self.final, "a final position was written"
            if lowest == grown - 1 == self.length:  # as nearly always: one token more
                if grown > len(self._tokens):
                    self._make_room(grown)
                self.length = grown
            elif grown > self.length:
                self.extend(grown - self.length, mask_token, masked=True)
            for place, token in zip(places, update.tokens.tolist(), strict=True):
                self._tokens[place] = token
                self._masked[place] = False
        if len(update.remask):
            assert int(update.remask.min()) >= self.final, "a final position was masked again"
            self._tokens[update.remask] = mask_token if update.noise is None else update.noise
            self._masked[update.remask] = True
        if update.memory:
            self.scratch.update(update.memory)
        if not update.logprobs:
            return
        self.logprobs.update(update.logprobs)
        while self.scored < self.prompt_length and self.scored in self.logprobs:
            self.scored += 1

    def reopen(self, spans: Iterable[tuple[int, int]], mask_token: int) -> None:
        """Mask stretches [start, end) of a canvas that is all prompt; what comes before the first stays it,
        but for what was answered."""
        for start, end in spans:
            self._tokens[start:end] = mask_token
            self._masked[start:end] = True
        self.final = self.emitted = int(np.flatnonzero(self.masked)[0])
        self.prompt_length = self.final - self.answered

    def stop_ids(self, eos_ids: frozenset[int]) -> frozenset[int]:
        """Every token id that ends this request, given those of the model."""
        known: frozenset[int] | None = self.memo.get("stops")
        if known is None:
            known = self.memo["stops"] = self.params.stop_ids(eos_ids)
        return known

    def first_stop(self, tokens: list[int], eos_ids: frozenset[int]) -> int | None:
        """Index of the first of the tokens from `emitted` on that ends the request."""
        stops = self.stop_ids(eos_ids)
        if stops.isdisjoint(tokens):
            return None
        earliest = self.prompt_length + self.params.min_tokens - self.emitted
        return next((i for i, t in enumerate(tokens) if t in stops and i >= earliest), None)

    def truncate(self, length: int) -> None:
        """Drop the canvas beyond `length` (a stop token inside a block)."""
        self.length = length
        self.final = min(self.final, length)

    def fork(self, request_id: int, *, seed: int) -> Sequence:
        """A copy that goes its own way from here."""
        twin = Sequence(
            request_id, self.tokens, self.params, limit=self.limit, seed=seed, salt=self.salt
        )
        twin.prompt_length, twin.answered = self.prompt_length, self.answered
        twin.edits, twin.is_watched = self.edits, self.is_watched
        twin.ends_here, twin.is_closed = self.ends_here, self.is_closed
        twin.led_from = self.led_from
        twin.final, twin.emitted, twin.scored = self.final, self.emitted, self.scored
        twin._masked = self._masked[: self.length].copy()
        twin.logprobs = dict(self.logprobs)
        twin.scratch = copy.deepcopy(self.scratch)
        if self.second is not None:
            twin.second = self.second.fork(~request_id, seed=seed)
        return twin

    def share_scores(self, other: Sequence) -> None:
        """Take over the log-probabilities of the same prompt."""
        self.scored = other.scored
        self.logprobs |= {p: v for p, v in other.logprobs.items() if p < self.prompt_length}

    def _make_room(self, length: int) -> None:
        if length <= len(self._tokens):
            return
        capacity = max(length, 2 * len(self._tokens))
        for name in ("_tokens", "_masked"):
            old = getattr(self, name)
            new = np.zeros(capacity, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
