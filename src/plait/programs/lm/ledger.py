"""What a program's calls of the model cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from plait.core.sequence import Metrics


@dataclass(slots=True)
class Ledger:
    """Sums over the requests of one run of a program, its forks included.

    prompt_tokens: of the texts that the program gave, each counted once, when it was first read: the state is kept.
    generated_tokens: that the model chose, those of beams and samples that were dropped and the tokens that only end
    an answer included, and those of scored choices. billable_tokens: both, which is what LMQL's paper counts (prompt
    and answer of each call of a decoder, where a program is one call). resent_tokens: what an interface without a state
    would bill for the same requests: every one with the whole prompt.
    requests: to the engine. forwards: in which one took part; positions: fed by them. cached_tokens: positions that were
    found computed. forced_tokens: decode steps saved, as a constraint left no choice.
    """

    prompt_tokens: int = 0
    generated_tokens: int = 0
    resent_tokens: int = 0
    requests: int = 0
    forwards: int = 0
    positions: int = 0
    cached_tokens: int = 0
    forced_tokens: int = 0

    @property
    def billable_tokens(self) -> int:
        return self.prompt_tokens + self.generated_tokens

    def asked(self, prompt_length: int, generated: int) -> None:
        """A request with so many tokens of prompt was answered by so many."""
        self.requests += 1
        self.generated_tokens += generated
        self.resent_tokens += prompt_length + generated

    def ran(self, metrics: Metrics) -> None:
        """What the engine says of a choice that has ended."""
        self.forwards += metrics.num_forwards
        self.positions += metrics.num_forwarded_positions
        self.cached_tokens += metrics.num_cached_tokens
        self.forced_tokens += metrics.num_forced

    def record(self) -> dict[str, int]:
        """All of it, for JSON."""
        return {"billable_tokens": self.billable_tokens, **asdict(self)}
