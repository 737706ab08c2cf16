"""What a step costs with more or fewer positions, as it is seen to cost while the engine runs.

The time of a step of M positions changes with contexts, with what else runs on the machine and with its clock, so
what was seen last counts most. `plait bench step`, if it was ever run, gives the shape; without it a further position
is taken to cost `ROW` of the first. How far off the shape is altogether is learned from every step, how far off it is
at one size from the steps of that size, the more of them the surer, as long as they are recent: a machine may become twice as
slow from one second to the next, and sizes that were last seen before would seem cheap. An unmeasured shape is no help
between the sizes that were seen, so there the nearest counts alone. Speed is all that depends on this.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from plait.iteration.pace import StepTime

MOST_WATCHED = 128
"""Positions; larger steps are prompts."""
ROW = 0.2
NEW = 0.1
"""What a new time counts against what is known."""
SURE = 8
"""A size that was seen so often counts as much as all sizes together."""
FADE = 0.95
"""How much a time counts a step later."""
GRAIN = 64
"""Tokens of context that make no difference."""
MOST_TIMES = 4096
MOST_FRESH = 64
"""Steps that are noted down before what is known is worked out again, if nobody asks for it."""
SPARE, MOST_SPARE = 0.01, 0.3
"""Of the time of plain decoding, what may be spent on finding out whether drafts pay by now; seconds that are saved up for
that at most, since all who run wait for them at once."""


@dataclass(slots=True)
class _Seen:
    """ratio: of the time seen to the shape's, a mean in which the latest count most. times: how often it was seen, of which
    what is older counts less. last: the number of the step that was seen last."""

    ratio: float = 1.0
    times: float = 0.0
    last: int = 0

    def known(self, step: int) -> float:
        """What `times` has become by this step."""
        return self.times * FADE ** (step - self.last)

    def take(self, ratio: float, step: int) -> None:
        # What takes twice as long as usual was held up by something else.
        fair = min(ratio, 2 * self.ratio) if self.times else ratio
        self.times, self.last = self.known(step) + 1, step
        self.ratio += max(NEW, 1 / self.times) * (fair - self.ratio)


@dataclass(slots=True)
class Company:
    """num_running: requests that share the steps. num_drafted: rows that they drafted for the present one. time:
    measured by `plait bench step`, None if it was not. spare: seconds that trying out drafts may still take.
    draft_seconds: that drafting took in all; draft_times: each, the latest. known: proposer and kind of guess -> how
    often guesses were right in all requests (width.py:Record)."""

    num_running: int = 1
    num_drafted: int = 0
    time: StepTime | None = None
    spare: float = 0.0
    draft_seconds: float = 0.0
    draft_times: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_TIMES))
    known: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    _step: int = 0
    _all: _Seen = field(default_factory=_Seen)
    _seen: dict[int, _Seen] = field(default_factory=dict)
    _shapes: dict[tuple[int, int], float] = field(default_factory=dict)
    _fresh: list[tuple[int, float, int]] = field(default_factory=list)

    @property
    def is_known(self) -> bool:
        """Whether any step has been seen."""
        return bool(self._seen or self._fresh)

    def observe(self, positions: int, seconds: float, context: int = 0) -> None:
        """Take a step into account. context: tokens before each position, on average."""
        if positions > MOST_WATCHED:
            return
        self._fresh.append((positions, seconds, context))
        if len(self._fresh) >= MOST_FRESH:
            self._learn()

    def seconds(self, positions: int, context: int) -> float:
        """Of a step with so many positions, each of whose logits are wanted; 1 for one if none has been seen."""
        if self._fresh:
            self._learn()
        shape = self._shape(positions, context)
        if not self._seen:
            return shape / self._shape(1, context)
        if self.time is None:
            return shape * self._nearest(positions).ratio
        own = self._seen.get(positions, self._all)
        times = own.known(self._step)
        return shape * (times * own.ratio + SURE * self._all.ratio) / (times + SURE)

    def allow(self, plain_seconds: float) -> None:
        """Tokens were decided that plain decoding takes so long for: a little may be spent on trying."""
        self.spare = min(MOST_SPARE, self.spare + SPARE * plain_seconds)

    def drafted(self, seconds: float) -> None:
        """Somebody took so long to draft, or to find that it is better not to."""
        self.draft_seconds += seconds
        self.draft_times.append(seconds)

    def _learn(self) -> None:
        """From the steps that were noted down, in their order."""
        for positions, seconds, context in self._fresh:
            ratio = seconds / self._shape(positions, context)
            self._step += 1
            self._all.take(ratio, self._step)
            own = self._seen.get(positions)
            if own is None:
                own = self._seen[positions] = _Seen()
            own.take(ratio, self._step)
        self._fresh.clear()

    def _nearest(self, positions: int) -> _Seen:
        """What was seen of the size nearest to `positions`; some size was."""
        seen = self._seen
        for away in range(positions + MOST_WATCHED):
            if found := seen.get(positions - away) or seen.get(positions + away):
                return found
        return self._all

    def _shape(self, positions: int, context: int) -> float:
        if self.time is None:
            return 1.0 + ROW * (positions - 1)
        key = positions, context // GRAIN
        known = self._shapes.get(key)
        if known is None:
            predicted = self.time.predict(positions, key[1] * GRAIN, positions)
            known = self._shapes[key] = max(predicted, 1e-9)
        return known
