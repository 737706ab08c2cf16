"""What this machine can do at most: memory read and small integers multiplied.

A forward that reads so many bytes and multiplies so many weights takes at least the longer of the two at
their peaks, since both can go on at once; the share of a measured time that this limit makes up says how
much there is left to gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from plait.core.config import EngineConfig
from plait.engine.facts import Cost, Work, model_work
from plait.kernels.measure import time_multiply, time_read
from plait.kernels.plan import Pool, check_isa, start_threads

PASSES = 9
DEFAULT_CACHE = 32 << 20


@dataclass(frozen=True, slots=True)
class Peaks:
    """read: bytes per second, median. multiply: multiply-accumulates per second, best. last_level_cache:
    bytes."""

    read: float
    multiply: float
    last_level_cache: int

    def limit(self, cost: Cost) -> float:
        """Seconds below which this machine cannot do what a forward has to do."""
        return max(cost.bytes / self.read, cost.macs / self.multiply)


@dataclass(frozen=True, slots=True)
class Roof:
    """A model on this machine. kv: element type of the cache. Seconds that its forwards take at least."""

    peaks: Peaks
    work: Work
    kv: str

    def prefill(self, tokens: int, batch: int = 1) -> float:
        """Of the first token of `batch` prompts of this length, whose weights are read once."""
        step = self.work.step(rows=tokens, start=0, logits=1, kv=self.kv, sequences=batch)
        return self.peaks.limit(step)

    def decode(self, context: int, batch: int = 1, shared: int = 0) -> float:
        """Of one more token for each of `batch` requests; shared: as for `Work.step`."""
        step = self.work.step(
            rows=1, start=context, logits=1, kv=self.kv, sequences=batch, shared=shared
        )
        return self.peaks.limit(step)

    def chunk(self, tokens: int, context: int) -> float:
        """Of a part of a prompt that wants no logits."""
        return self.peaks.limit(self.work.step(rows=tokens, start=context, logits=0, kv=self.kv))


def roof(path: Path, config: EngineConfig) -> tuple[Roof, str]:
    """A model's limits on this machine, measured now, and the peaks in words."""
    pool, peaks = measured(config.threads, config.isa)
    return Roof(peaks, model_work(path), config.kv_type), words(pool, peaks)


def measured(threads: int, isa: str = "auto") -> tuple[Pool, Peaks]:
    """So many threads (0: what this machine allows), and what they reach. Raises UserError for others
    than can be had."""
    check_isa(isa)
    pool = start_threads(threads)
    return pool, peaks(pool, isa)


def words(pool: Pool, peaks: Peaks) -> str:
    """One line for people."""
    rates = f"{peaks.read / 1e9:.1f} GB/s, multiply {peaks.multiply / 1e9:.0f} GMAC/s"
    return f"{pool.size} threads read {rates}"


def peaks(pool: Pool, isa: str = "auto") -> Peaks:
    """Measure both, on all threads of the pool, with memory far larger than the caches."""
    cache = last_level_cache()
    size = 8 * cache
    seconds = time_read(pool, size, PASSES + 1, isa)[1:]
    return Peaks(size / median(seconds), time_multiply(pool, PASSES, isa), cache)


def last_level_cache(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Bytes of the largest cache of a core; 32 MiB where the kernel does not tell."""
    sizes = [_size(file.read_text()) for file in folder.glob("index*/size")]
    return max(sizes, default=DEFAULT_CACHE)


def _size(text: str) -> int:
    digits, unit = text.strip().rstrip("KMG"), text.strip()[-1]
    return int(digits) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(unit, 1)
