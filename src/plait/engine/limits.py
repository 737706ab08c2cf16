"""What one request, and all that wait, may take at most. 0 always means no limit."""

from __future__ import annotations

from dataclasses import dataclass

from plait.core.config import EngineConfig
from plait.core.errors import ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.iteration.base import Request


@dataclass(frozen=True, slots=True)
class Limits:
    """See EngineConfig for the fields."""

    max_queued_requests: int = 0
    max_queued_tokens: int = 0
    max_request_tokens: int = 0
    max_request_seconds: float = 0.0
    max_request_kv: int = 0

    @classmethod
    def of(cls, config: EngineConfig) -> Limits:
        return cls(
            config.max_queued_requests,
            config.max_queued_tokens,
            config.max_request_tokens,
            config.max_request_seconds,
            config.max_request_kv,
        )

    def canvas(self, prompt_length: int, params: SamplingParams, context_length: int) -> int:
        """Canvas length at which a choice ends, as far as the limit of tokens and the context allow.

        Raises UserError when more tokens are asked for than a request may generate.
        """
        filled = sum(end - start for start, end in params.infill)
        asked, most = filled or params.max_tokens, self.max_request_tokens
        if asked is not None and most and asked * params.n > most:
            way_out = "an infill" if filled else "max_tokens"
            raise UserError(
                f"the request asks for {params.n} x {asked} tokens, but one may generate {most} at most",
                f"{way_out} of at most {most // params.n}",
            )
        if asked is None and most:
            asked = most // params.n
            if asked == 0:
                raise UserError(
                    f"{params.n} choices were asked for, but one may generate {most} tokens in all",
                    f"n of at most {most}",
                )
        return context_length if asked is None else min(prompt_length + asked, context_length)

    def hold_kv(self, requests: list[Request]) -> None:
        """Make the choices of a request, together, fit into `max_request_kv` slots; before `admit`.

        Without max_tokens they end earlier. Raises UserError when that is no way out.
        """
        if not self.max_request_kv:
            return
        most = self.max_request_kv // len(requests)
        for request in requests:
            seq = request.seq
            # Again and again, because a planner may round up to whole blocks.
            while (excess := request.span - most) > 0:
                less = -(-excess // len(request.streams))
                if seq.params.max_tokens is not None or seq.limit - less <= seq.prompt_length:
                    raise ContextLengthError(
                        f"the request may need {seq.limit} slots of KV cache for each of "
                        f"{len(requests)} choices, but one may take {self.max_request_kv} in all",
                        "shorten the prompt, or ask for fewer tokens or choices",
                    )
                seq.limit -= less

    def deadline(self, seconds: float | None) -> float | None:
        """The sooner of what was asked for and what is allowed, in seconds from submission."""
        if not self.max_request_seconds:
            return seconds
        return min(self.max_request_seconds, seconds or self.max_request_seconds)


NO_LIMITS = Limits()
