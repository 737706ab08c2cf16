"""Sample every open row from the model's distribution, shaped by the request's parameters.

In this order (ties go to the lower token id everywhere):

1. raw log-probabilities are read off (`logprobs`, `prompt_logprobs`), before anything is changed;
2. what a grammar does not allow becomes impossible; `min_tokens`: stop tokens are impossible before it; `logit_bias` is added;
3. `repetition_penalty` r over prompt and output: scores above 0 are divided by r, the others multiplied
   (arXiv:1909.05858); `frequency_penalty` times the count in the output and, if that is above 0,
   `presence_penalty` are subtracted;
4. temperature 0 takes the best score. Otherwise each of these acts on what the one before left,
   renormalised: `top_k` best scores; softmax of score / temperature; `top_p`: the fewest most probable
   tokens that reach the mass (arXiv:1904.09751); `min_p`: those at least min_p times as probable as the
   best (arXiv:2407.01082); `typical_p`: the fewest tokens, nearest to the entropy first, that reach the
   mass (arXiv:2202.00666);
5. one draw by inverse CDF in ascending id order with the random number of (seed, canvas position).
"""

from __future__ import annotations

from plait.core.sequence import Sequence
from plait.core.window import Update, Window
from plait.decoding import base, rows
from plait.decoding.base import Item, Rows
from plait.decoding.base import Options as Options
from plait.kernels.sampling import Choices

SUMMARY = "sample every open position; greedy at temperature 0"


class Decoder(base.Decoder):
    """Writes all open targets."""

    is_guided = True
    constrains = True

    def best(self, seq: Sequence, window: Window) -> int:
        return rows.best_needed(seq, window.targets, self.traits)

    def decide_all(self, items: list[Item]) -> list[Update | Exception]:
        return rows.decide_all(items, self.traits, self.threads, self._write)

    def _write(self, part: Rows, choices: Choices) -> Update:
        if part.seq.params.logprobs is None:
            return Update(part.targets, choices.tokens)
        logprobs = rows.written_logprobs(
            part.logits, part.seq, part.targets, choices.tokens, part.masks
        )
        return Update(part.targets, choices.tokens, logprobs=logprobs)
