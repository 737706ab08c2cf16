"""How long a block, and how wide the window around it, should be on this machine: from the measured cost of a step.

On a CPU a position is not free: from some number on a step takes longer with each of them. A long block shares one
refresh of the canvas among many tokens, and its steps decide more tokens at once; a short one feeds less in every
step. What a model decides in a step is not known beforehand, so a rule stands for it: a share of `DECIDED` of the
positions that are open, one at least. Then a token of blocks of B positions takes

    (T(canvas) + (steps(B) - 1) T(B + window)) / B    seconds,

a refresh and the other steps, which feed the block and the window around it, behind a canvas of `CANVAS` positions.
"""

from __future__ import annotations

from collections.abc import Sequence

from plait.iteration.pace import StepTime

DECIDED = 0.25
CANVAS = 512
SIZES = (4, 8, 16, 32, 64)
LOOKS = (4, 8, 16, 32)
STRETCH = 1.25
"""How many times as long a step may become by the window around its block."""


def steps(size: int) -> int:
    """Forwards until a block is decided, by the rule."""
    count, is_open = 0, float(size)
    while is_open > 0:
        is_open -= max(1.0, DECIDED * is_open)
        count += 1
    return count


def seconds(time: StepTime, size: int, around: int) -> float:
    """Of one token in blocks of `size` positions, with `around` more in every step that is no refresh."""
    refresh = time.predict(CANVAS, 0, size)
    return (refresh + (steps(size) - 1) * time.predict(size + around, CANVAS, size)) / size


def fastest(time: StepTime, around: int = 0, sizes: Sequence[int] = SIZES) -> int:
    """The block length with the least seconds a token; of equal ones the shortest."""
    return min(sizes, key=lambda size: seconds(time, size, around))


def widest(time: StepTime, size: int, looks: Sequence[int] = LOOKS) -> int:
    """The most positions on either side of a block that leave a step within `STRETCH` times what it takes without
    them; the fewest of `looks`, if even they do not."""
    bound = STRETCH * time.predict(size, CANVAS, size)
    fitting = [look for look in looks if time.predict(size + 2 * look, CANVAS, size) <= bound]
    return max(fitting, default=min(looks))


def explained(time: StepTime, size: int, around: int, looks: tuple[int, int]) -> str:
    """Why a block is `size` positions long, in a line for people. around: that it was chosen with; looks: positions
    before and behind it."""
    each = ", ".join(f"{1e3 * seconds(time, one, around):.1f} with {one}" for one in SIZES)
    window = f", {looks[0]} before and {looks[1]} behind them" if any(looks) else ""
    return (
        f"blocks of {size} positions{window}, from the measured cost of a step: milliseconds a token are expected "
        f"to be {each} (block_size chooses)"
    )
