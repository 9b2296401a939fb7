"""Plain counters in Prometheus' text form, counted once a request; what is made of sums is in `exposition`."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from freehold.core import WorkerState
from freehold.telemetry.exposition import Exposition, Facts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COARSE_S = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    3.0,
    5.0,
    7.5,
    10.0,
    15.0,
    20.0,
    30.0,
    45.0,
    60.0,
    120.0,
    300.0,
    600.0,
)
STATES = get_args(WorkerState)


class Metrics:
    """One registry of its own, so that several gateways can live in one test process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "freehold_requests", "HTTP requests answered.", ["model", "route", "status"], registry=registry
        )
        self.tokens = Counter("freehold_tokens", "Tokens of ended answers.", ["model", "kind"], registry=registry)
        self.disconnects = Counter(
            "freehold_disconnects", "Clients that left before their answer ended.", ["route"], registry=registry
        )
        self.refused = Counter(
            "freehold_refused", "Requests refused at once, by what was in the way.", ["model", "reason"],
            registry=registry,
        )  # fmt: skip
        self.runaway = Counter(
            "freehold_runaway_answers",
            "Answers cut at a limit that nobody had asked for.",
            ["model"],
            registry=registry,
        )
        self.slow_readers = Counter(
            "freehold_slow_readers", "Clients left because too much waited for them.", registry=registry
        )
        self.queue_depth = Gauge(
            "freehold_queue_depth", "Requests accepted that no worker has begun.", registry=registry
        )
        self.running = Gauge("freehold_running", "Requests that a worker answers now.", registry=registry)
        self.workers = Gauge("freehold_workers", "Workers by state.", ["state"], registry=registry)
        self.kv_usage = Gauge(
            "freehold_kv_usage_ratio",
            "Share of a worker's KV cache in use, where its engine tells.",
            ["worker"],
            registry=registry,
        )
        self.duration_s = _histogram(
            "request_duration", "From the request's arrival to the end of its answer.", "route", COARSE_S, registry
        )

        self._exposition = Exposition()
        registry.register(self._exposition)

    def answered(self, route: str, model: str, status: int, seconds: float) -> None:
        """One HTTP request has ended, well or not."""
        self.requests.labels(model, route, str(status)).inc()
        self.duration_s.labels(route).observe(seconds)

    def described(self) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
        """(name as it is scraped, kind, labels, help) of every metric."""
        labels = {id(each): tuple(getattr(each, "_labelnames", ())) for each in vars(self).values()}
        plain = [each for each in vars(self).values() if isinstance(each, Counter | Gauge | Histogram)]
        families = [(next(iter(each.collect())), labels[id(each)]) for each in plain]
        families += [(each, tuple(getattr(each, "_labelnames", ()))) for each in self._exposition.collect()]
        for family, names in families:
            yield family.name + ("_total" if family.type == "counter" else ""), family.type, names, family.documentation

    def used(self, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Tokens of one ended request."""
        self.tokens.labels(model, "prompt").inc(prompt_tokens)
        self.tokens.labels(model, "completion").inc(completion_tokens)

    def text(
        self, *, queued: int, running: int, worker_states: Iterable[str], kv_usage: Mapping[str, float] | None = None,
        facts: Facts | None = None,
    ) -> bytes:  # fmt: skip
        """What /metrics answers now. `kv_usage` has the workers whose engine tells it."""
        self._exposition.facts = facts or Facts()
        self.queue_depth.set(queued)
        self.running.set(running)
        tally = Tally(worker_states)
        for state in STATES:
            self.workers.labels(state).set(tally[state])
        self.kv_usage.clear()
        for worker, share in (kv_usage or {}).items():
            self.kv_usage.labels(worker).set(share)
        return generate_latest(self.registry)


def _histogram(name: str, help: str, label: str, bounds_s: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    return Histogram(f"freehold_{name}_seconds", help, [label], buckets=bounds_s, registry=registry)
