"""/metrics: what Prometheus reads. Times are seconds of wall clock."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import prometheus_client
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from plait.engine.worker import Worker

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """What the server counts itself; the engine's own numbers are read when somebody asks."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "plait_http_requests",
            "HTTP requests by path and status",
            ["path", "status"],
            registry=self._registry,
        )
        self._prompt = Counter("plait_prompt_tokens", "Tokens of prompts", registry=self._registry)

    def watch(self, worker: Worker) -> None:
        """Show the numbers of an engine from now on."""
        self._registry.register(_EngineNumbers(worker))

    def answered(self, path: str, status: int) -> None:
        """Count an HTTP request. path: of a route, so that there are few."""
        self._answers.labels(path, str(status)).inc()

    def prompted(self, num_tokens: int) -> None:
        """Count the tokens of a prompt."""
        self._prompt.inc(num_tokens)

    def text(self) -> bytes:
        """All of it in Prometheus' own format."""
        return prometheus_client.generate_latest(self._registry)


class _EngineNumbers(Collector):
    """Reads plain numbers while the engine runs: one may be a step ahead of another."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        now = self._worker.snapshot()
        gauges = {
            "requests_running": ("Requests in the running batch", now.num_running),
            "requests_waiting": ("Requests in the queue", now.num_waiting),
            "requests_queued": ("Requests that have not started yet", now.num_queued),
            "queued_tokens": ("Prompt tokens of those", now.num_queued_tokens),
            "kv_cache_usage": ("Share of the KV cache in use, 0 to 1", now.occupancy),
        }
        counters = {
            "steps": ("Forwards", now.num_steps),
            "windows": ("Requests in all forwards; over steps: the batch size", now.num_windows),
            "positions": ("Positions fed", now.num_positions),
            "generated_tokens": ("Tokens that became final", now.num_tokens),
            "preemptions": ("Requests that gave their memory back", now.num_preemptions),
            "prefix_hits": ("Requests whose prompt began in the cache", now.num_prefix_hits),
            "prefix_cached_tokens": ("Prompt tokens found in the cache", now.num_prefix_tokens),
            "drafted_tokens": ("Tokens that were drafted", now.num_drafted),
            "accepted_tokens": ("Drafted tokens that were right", now.num_accepted),
            "draft_seconds": ("Time that drafting took", now.draft_seconds),
            "plain_decode_seconds": (
                "What ended answers that may draft would have taken one token at a time, estimated",
                now.plain_seconds,
            ),
            "decode_seconds": ("What those answers took", now.decode_seconds),
        }
        for name, (words, value) in gauges.items():
            yield GaugeMetricFamily(f"plait_{name}", words, value)
        for name, (words, value) in counters.items():
            yield CounterMetricFamily(f"plait_{name}", words, value)
        yield from _places(now.drafts, now.accepted)
        times = {
            "time_to_first_token": ("From arrival to the first token", now.time_to_first_token),
            "time_per_output_token": ("Between tokens, mean of an answer", now.time_per_token),
        }
        for name, (words, seen) in times.items():
            buckets = [("+Inf" if bound == inf else str(bound), n) for bound, n in seen.buckets()]
            yield HistogramMetricFamily(f"plait_{name}_seconds", words, buckets, seen.sum)
        ended = CounterMetricFamily("plait_requests_ended", "By finish reason", labels=["reason"])
        for reason, count in now.finished.items():
            ended.add_metric([reason], count)
        yield ended


def _places(drafts: dict[int, int], accepted: dict[int, int]) -> Iterator[Metric]:
    """Drafts by place: how far they reached, and how far they were right."""
    kinds = {
        "drafted_by_place": ("Drafted tokens by place in the draft, from 1", drafts),
        "accepted_by_place": ("Those that were right", accepted),
    }
    for name, (words, counts) in kinds.items():
        family = CounterMetricFamily(f"plait_{name}", words, labels=["place"])
        for place, count in sorted(counts.items()):
            family.add_metric([str(place + 1)], count)
        yield family
