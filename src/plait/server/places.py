"""How much of something there is, and who has taken what of it."""

from __future__ import annotations

from collections import Counter


class Places:
    """most: what there is.

    A full house still takes in a tenant that holds less than an equal share of it, so nobody can keep the others
    out by filling it: with n tenants it grows to 1 + 1/2 + ... + 1/n times `most` at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self._held.total()

    def take(self, tenant: str, count: int = 1) -> bool:
        """Whether a tenant gets so much more; else nothing has changed."""
        share = self._most // len({*self._held, tenant})
        if self.total + count > self._most and self._held[tenant] + count > share:
            return False
        self._held[tenant] += count
        return True

    def give(self, tenant: str, count: int = 1) -> None:
        """Give something back."""
        self._held[tenant] -= count
        if not self._held[tenant]:
            del self._held[tenant]
