"""What a step costs with more or fewer positions, as it is seen to cost while the engine runs.

The time of a step of M positions changes with contexts, with what else runs on the machine and with its clock, so
what was seen last counts most. `plait bench step`, if it was ever run, gives the shape between the sizes that were
seen; without it a further position is taken to cost `ROW` of the first. Speed is all that depends on this.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from plait.iteration.pace import StepTime

MOST_WATCHED = 128
"""Positions; larger steps are prompts."""
ROW = 0.2
NEW = 0.1
"""What a new time counts against what is known."""


@dataclass(slots=True)
class Company:
    """num_running: requests that share the steps. time: measured by `plait bench step`, None if it was not."""

    num_running: int = 1
    time: StepTime | None = None
    _seen: dict[int, float] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether any step has been seen."""
        return bool(self._seen)

    def observe(self, positions: int, seconds: float) -> None:
        """Take a step into account."""
        if positions > MOST_WATCHED:
            return
        known = self._seen.get(positions)
        # What takes twice as long as usual was held up by something else.
        fair = seconds if known is None else min(seconds, 2 * known)
        self._seen[positions] = fair if known is None else known + NEW * (fair - known)

    def seconds(self, positions: int, context: int) -> float:
        """Of a step with so many positions, each of whose logits are wanted; 1 for one if none has been seen."""
        shape = self._shape(positions, context)
        if not self._seen:
            return shape / self._shape(1, context)
        near = min(self._seen, key=lambda known: abs(known - positions))
        return self._seen[near] * shape / self._shape(near, context)

    def _shape(self, positions: int, context: int) -> float:
        if self.time is None:
            return 1.0 + ROW * (positions - 1)
        return max(self.time.predict(positions, context, positions), 1e-9)
