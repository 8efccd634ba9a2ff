"""What a server is doing, as Prometheus reads it: by prometheus_client, the extra ``metrics``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "expose"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


def expose(facts: Mapping[str, Any]) -> bytes:
    """The page, from what `_facts.gather` gives."""
    registry = CollectorRegistry()
    registry.register(_Reading(facts))
    return generate_latest(registry)


class _Reading(Collector):
    """One look at a server, made into metrics."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        facts = self._facts
        requests = CounterMetricFamily(
            "forkful_server_requests", "Requests (connections, of a raw handler) that have ended.", labels=["outcome"]
        )
        requests.add_metric(["served"], facts["requests"] - facts["failed"])
        requests.add_metric(["failed"], facts["failed"])
        yield requests
        yield HistogramMetricFamily(
            "forkful_server_request_seconds",
            "How long the requests took.",
            buckets=[("+Inf" if bound is None else str(bound), number) for bound, number in facts["durations"]],
            sum_value=facts["seconds"],
        )
        seats = GaugeMetricFamily(
            "forkful_server_seats", "Threads of all workers, by what they are at.", labels=["state"]
        )
        for state in ("busy", "idle"):
            seats.add_metric([state], facts[state])
        yield seats
        yield GaugeMetricFamily("forkful_server_workers", "Worker processes.", value=len(facts["workers"]))
        yield GaugeMetricFamily(
            "forkful_server_workers_wanted", "Worker processes that there are to be.", value=facts["wanted"]
        )
        yield CounterMetricFamily(
            "forkful_server_workers_started", "Worker processes started so far.", value=facts["started"]
        )
        yield CounterMetricFamily(
            "forkful_server_workers_died", "Worker processes that were killed, or crashed.", value=facts["died"]
        )
        reloads = CounterMetricFamily("forkful_server_reloads", "Reloads that have ended.", labels=["outcome"])
        reloads.add_metric(["done"], facts["reloads"])
        reloads.add_metric(["given_up"], facts["reloads_given_up"])
        yield reloads
        yield GaugeMetricFamily(
            "forkful_server_generation", "Reloads before the newest workers.", value=facts["generation"]
        )
        if facts["queued"] is not None:
            yield GaugeMetricFamily(
                "forkful_server_queued", "Connections that wait to be accepted.", value=facts["queued"]
            )
        yield GaugeMetricFamily("forkful_server_uptime_seconds", "Since the master began.", value=facts["uptime"])
