"""Looks for stop strings in text that arrives letter by letter."""

from __future__ import annotations

from collections.abc import Sequence

from plait.core.errors import UserError
from plait.core.params import MAX_STOPS


class StopStrings:
    """Reads letters and says how many of the latest may yet turn out to begin a stop string.

    One automaton per string (Knuth, Morris and Pratt 1977), so a letter costs the same however it comes.
    Raises UserError for an empty string or more than MAX_STOPS of them.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if len(stops) > MAX_STOPS:
            raise UserError(f"{len(stops)} stop strings are too many", f"at most {MAX_STOPS}")
        if not all(stops):
            raise UserError("a stop string is empty", "every stop string needs at least one letter")
        # The longest first: of those that end at one letter it is the one that is reported.
        self._stops = sorted(set(stops), key=lambda stop: (-len(stop), stop))
        self._borders = [_borders(stop) for stop in self._stops]
        self._matched = [0] * len(self._stops)

    def read(self, letter: str) -> str | None:
        """Take one letter; returns the stop string that ends with it, the longest if several do."""
        for which, stop in enumerate(self._stops):
            matched, borders = self._matched[which], self._borders[which]
            while matched and stop[matched] != letter:
                matched = borders[matched]
            matched += stop[matched] == letter
            if matched == len(stop):
                return stop
            self._matched[which] = matched
        return None

    @property
    def num_undecided(self) -> int:
        """How many of the latest letters are the beginning of some stop string."""
        return max(self._matched, default=0)


def _borders(stop: str) -> list[int]:
    """Length of the beginning -> length of its longest proper beginning that is also its end."""
    borders = [0, 0]
    for end in range(1, len(stop)):
        border = borders[end]
        while border and stop[border] != stop[end]:
            border = borders[border]
        borders.append(border + (stop[border] == stop[end]))
    return borders
