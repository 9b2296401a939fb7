"""What /metrics says beyond plain counters: made at each scrape from the sums, so that it costs a request nothing.

Histograms come from the sketches, whose bins are 2 % wide: a sample lies in the right bucket, or is within 1 % of its
edge. `Facts` is all they are made of, and every metric is there without a sample, so that the reference can list it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from freehold.core import Record
from freehold.sketch import GAMMA, Sketch
from freehold.telemetry import figures, genai
from freehold.telemetry.genai import GenAi
from freehold.telemetry.power import GpuReading
from freehold.telemetry.sums import Sums
from freehold.telemetry.windows import Whole

BOUNDS_S = (
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02,
    0.025, 0.03, 0.035, 0.04, 0.045, 0.05, 0.055, 0.06, 0.07, 0.08, 0.09, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5,
    0.6, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
"""Around 50 ms, a p99 is known to 5 ms."""
RECENT = "the last minute"


class Facts(Record, frozen=True):
    """A moment of a gateway. What isn't known is left out."""

    ever: Whole = msgspec.field(default_factory=Whole)
    recent: Whole = msgspec.field(default_factory=Whole)
    """The last minute."""
    hour: Whole = msgspec.field(default_factory=Whole)
    models: dict[str, str] = {}
    """Variant -> its model's name."""
    lone_tokens_per_s: dict[str, float] = {}
    bandwidth_bytes_per_s: float | None = None
    queued_tokens: int = 0
    depth_per_batch: float | None = None
    batch_limits: dict[str, int] = {}
    cost_usd: float | None = None
    api_usd: float | None = None
    cost_drift: float | None = None
    power_w: float | None = None
    gpus: tuple[GpuReading, ...] = ()
    restarts: dict[str, int] = {}
    load_failures: dict[str, int] = {}
    hangs: dict[str, int] = {}
    down_s: dict[str, float] = {}
    load_s: dict[str, dict[str, float]] = {}
    memory_bytes: dict[str, int] = {}
    memory_limit_bytes: dict[str, int] = {}
    slo: tuple[figures.Kept, ...] = ()
    genai: GenAi = msgspec.field(default_factory=GenAi)
    history_up: bool | None = None
    history_lost: int = 0
    gateway_s: float = 0.0


class Exposition:
    """A collector of prometheus_client. `facts` is set before each scrape."""

    def __init__(self) -> None:
        self.facts = Facts()

    def collect(self) -> Iterator[Metric]:
        facts = self.facts
        yield from _latencies(facts)
        yield from _requests(facts)
        yield from _steps(facts)
        yield from _queue_and_money(facts)
        yield from _workers(facts)
        yield from _genai(facts.genai)


def _latencies(facts: Facts) -> Iterator[Metric]:
    texts = {
        "ttft": ("time_to_first_token", "From the request's arrival to its first token, of answers that ended well."),
        "itl": ("inter_token_latency", "Between two pieces of text of one answer, as they come from the worker."),
        "tpot": ("time_per_output_token", "Mean time between the tokens of an answer that ended well."),
        "e2e": ("request_latency", "From the request's arrival to its last byte, of answers that ended well."),
        "queue": ("queue", "From accepted to claimed by a worker."),
        "step": ("step", "One step of an engine."),
    }
    for metric, (name, help) in texts.items():
        by_variant = {
            (facts.models.get(variant, variant), variant): sums.sketches[metric]
            for variant, sums in facts.ever.parts.items()
            if metric in sums.sketches
        }
        yield histogram(f"freehold_{name}_seconds", help, ("model", "variant"), by_variant, BOUNDS_S)


def _requests(facts: Facts) -> Iterator[Metric]:
    ever = facts.ever.parts
    outcomes = {
        (variant, name): getattr(sums, name)
        for variant, sums in ever.items()
        for name in ("ok", "failed", "cancelled", "expired")
    } | {(variant, "refused"): sums.refused.total() for variant, sums in ever.items()}
    yield counter("request_outcomes", "Requests by how they ended.", ("variant", "outcome"), outcomes)
    yield counter("refusals", "Requests turned down, by code.", ("variant", "code"), _codes(ever, "refused"))
    yield counter("failures", "Accepted requests that failed, by code.", ("variant", "code"), _codes(ever, "failures"))
    yield counter(
        "good_requests", "Requests that ended well and kept the SLO.", ("variant",), _each(ever, lambda sums: sums.good)
    )
    kinds = {"prompt": "prompt_tokens", "cached": "cached_tokens", "completion": "completion_tokens"}
    kinds |= {"useful": "useful_tokens"}
    tokens = {(variant, kind): getattr(sums, name) for variant, sums in ever.items() for kind, name in kinds.items()}
    help = "Tokens of ended requests: `cached` are part of `prompt`, `useful` of `completion`."
    yield counter("variant_tokens", help, ("variant", "kind"), tokens)
    yield counter("looped_answers", "Answers that repeated themselves at their end.", ("variant",),
                  _each(ever, lambda sums: sums.looped))  # fmt: skip
    yield gauge(
        "answer_length_ratio", "Tokens an answer over their own baseline at the same prompts' lengths.", ("variant",),
        _each(facts.recent.parts, lambda sums: sums.longer_answers),
    )  # fmt: skip
    yield gauge("rambling", "1 while the change test says that answers have become longer.", ("variant",),
                _each(facts.recent.parts, lambda sums: float(sums.rambling)))  # fmt: skip
    yield gauge("prefix_reuse_ratio", f"Share of prompt tokens found in the cache, {RECENT}.", ("variant",),
                _each(facts.recent.parts, figures.prefix_reuse))  # fmt: skip
    yield gauge("slo_kept_ratio", "Share of the requests that kept an objective, the last 5 minutes.", ("objective",),
                {(each.text,): each.share_kept for each in facts.slo})  # fmt: skip


def _steps(facts: Facts) -> Iterator[Metric]:
    ever, recent = facts.ever.parts, facts.recent
    batches = {
        variant: figures.batch(sums, facts.lone_tokens_per_s.get(variant)) for variant, sums in recent.parts.items()
    }
    yield counter("steps", "Steps of the engines.", ("variant",), _each(ever, lambda sums: sums.steps))
    yield counter("step_tokens", "Tokens that steps gave out.", ("variant",), _each(ever, lambda s: s.step_tokens))
    yield counter("step_sequences", "Sequences that took part in steps, summed: over `freehold_steps_total`, "
                  "the mean batch.", ("variant",), _each(ever, lambda sums: sums.step_running))  # fmt: skip
    yield counter("bytes_read", "Weights and cache that steps read, by arithmetic, where the engine shows its steps.",
                  ("variant",), _each(ever, lambda sums: sums.bytes_read))  # fmt: skip
    yield gauge("batch_limit", "Sequences that all workers run at once.", ("variant",),
                {(variant,): limit for variant, limit in facts.batch_limits.items()})  # fmt: skip
    yield gauge("batch_mean", f"Sequences a step, {RECENT}.", ("variant",),
                {(variant,): each.mean for variant, each in batches.items()})  # fmt: skip
    yield gauge("tokens_per_second", f"Tokens given out, {RECENT}.", ("variant",),
                _each(recent.parts, lambda sums: figures.tokens_per_s(sums, recent.seconds)))  # fmt: skip
    yield gauge("tokens_per_second_per_sequence", f"Normalised by the batch: what each sequence got, {RECENT}.",
                ("variant",), {(v,): each.tokens_per_s_per_sequence for v, each in batches.items()})  # fmt: skip
    yield gauge("batch_efficiency_ratio", f"Of what as many lone sequences would give, {RECENT}.", ("variant",),
                {(variant,): each.efficiency for variant, each in batches.items()})  # fmt: skip
    yield gauge("memory_bandwidth_utilisation_ratio", "Share of the measured memory bandwidth that steps used while "
                f"they ran, {RECENT}.", ("variant",),
                _each(recent.parts, lambda sums: figures.mbu(sums, facts.bandwidth_bytes_per_s)))  # fmt: skip


def _queue_and_money(facts: Facts) -> Iterator[Metric]:
    hour_ok = sum(sums.ok for sums in facts.hour.parts.values())
    saved_usd = None if facts.cost_usd is None or facts.api_usd is None else facts.api_usd - facts.cost_usd
    yield gauge("queued_tokens", "Tokens that wait, prompts and expected answers.", (), {(): facts.queued_tokens})
    yield gauge("queue_depth_per_batch", "Requests that wait over the sequences that run at once.", (),
                {(): facts.depth_per_batch})  # fmt: skip
    yield counter("cost_usd", "What this machine cost, used or not.", (), {(): facts.cost_usd})
    yield counter("api_cost_usd", "What the API of observe.against would have asked.", (), {(): facts.api_usd})
    yield gauge("saved_usd", "The difference since this gateway began; negative while the API would be cheaper.", (),
                {(): saved_usd})  # fmt: skip
    yield gauge("cost_per_successful_request_usd", "The last hour's.", (),
                {(): figures.per_success_usd(facts.hour.cost_usd, hour_ok)})  # fmt: skip
    yield gauge("cost_drift_ratio", "The last whole hour's cost of a success over its baseline.", (),
                {(): facts.cost_drift})  # fmt: skip
    yield gauge("power_watts", "Of processors and GPUs, as far as they tell.", (), {(): facts.power_w})
    up = None if facts.history_up is None else float(facts.history_up)
    yield gauge("history_up", "1 while the local history can be written.", (), {(): up})
    yield counter("history_lost", "Rows and slots that were not written.", (), {(): facts.history_lost})


def _workers(facts: Facts) -> Iterator[Metric]:
    yield counter("worker_restarts", "Starts after a death, since this gateway began.", ("worker",),
                  {(worker,): count for worker, count in facts.restarts.items()})  # fmt: skip
    yield counter("load_failures", "Starts of a worker whose model did not load.", ("worker",),
                  {(worker,): count for worker, count in facts.load_failures.items()})  # fmt: skip
    yield counter("worker_hangs", "Times a worker was seen to hang.", ("worker",),
                  {(worker,): count for worker, count in facts.hangs.items()})  # fmt: skip
    yield counter("worker_down_seconds", "Time in which a worker that had been ready was not: what restarts cost.",
                  ("worker",), {(worker,): seconds for worker, seconds in facts.down_s.items()})  # fmt: skip
    loads = {(worker, phase): s for worker, phases in facts.load_s.items() for phase, s in phases.items()}
    yield gauge("load_seconds", "How long a worker's model took to load, by phase.", ("worker", "phase"), loads)
    yield gauge("worker_memory_bytes", "Resident memory.", ("worker",),
                {(worker,): size for worker, size in facts.memory_bytes.items()})  # fmt: skip
    yield gauge("worker_memory_limit_bytes", "Near it a worker is replaced.", ("worker",),
                {(worker,): size for worker, size in facts.memory_limit_bytes.items()})  # fmt: skip
    gpus = {(str(i), gpu.name): gpu for i, gpu in enumerate(facts.gpus)}
    labels = ("gpu", "name")
    yield gauge("gpu_busy_ratio", "Share of the time in which a kernel ran (NVML).", labels,
                {key: gpu.busy for key, gpu in gpus.items()})  # fmt: skip
    yield gauge("gpu_memory_busy_ratio", "Share of the time in which memory was read or written (NVML).", labels,
                {key: gpu.memory_busy for key, gpu in gpus.items()})  # fmt: skip
    yield gauge("gpu_memory_used_bytes", "Memory in use (NVML).", labels,
                {key: gpu.memory_used_bytes for key, gpu in gpus.items()})  # fmt: skip


def _genai(told: GenAi) -> Iterator[Metric]:
    name = "gen_ai_server_"
    yield histogram(f"{name}request_duration_seconds", "OpenTelemetry: the time a request took.", genai.LABELS,
                    told.duration, genai.DURATION_S)  # fmt: skip
    yield histogram(f"{name}time_to_first_token_seconds", "OpenTelemetry: the time to the first token.", genai.LABELS,
                    told.first, genai.FIRST_S)  # fmt: skip
    yield histogram(f"{name}time_per_output_token_seconds", "OpenTelemetry: the time a token after the first.",
                    genai.LABELS, told.each, genai.EACH_S)  # fmt: skip


# ---- families -------------------------------------------------------------------------------------

Values = Mapping[Any, float | int | None]
"""By the values of the labels, a tuple."""


def gauge(name: str, help: str, labels: tuple[str, ...], values: Values) -> Metric:
    family = GaugeMetricFamily(f"freehold_{name}", help, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric(key, value)
    return family


def counter(name: str, help: str, labels: tuple[str, ...], values: Values) -> Metric:
    family = CounterMetricFamily(f"freehold_{name}", help, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric(key, value)
    return family


def histogram(
    name: str, help: str, labels: tuple[str, ...], sketches: Mapping[Any, Sketch], bounds_s: Iterable[float]
) -> Metric:
    """Of sketches of milliseconds, in seconds."""
    family = HistogramMetricFamily(name, help, labels=labels)
    for key, sketch in sketches.items():
        family.add_metric(key, buckets(sketch, bounds_s), sum_value=sketch.total / 1000.0)
    return family


def buckets(sketch: Sketch, bounds_s: Iterable[float]) -> list[tuple[str, float]]:
    """(bound, values up to it), the last bound +Inf. A bin counts below a bound if its middle does."""
    bins, seen, at = sorted(sketch.bins.items()), sketch.zeros, 0
    told: list[tuple[str, float]] = []
    for bound_s in bounds_s:
        while at < len(bins) and 2.0 * GAMMA ** bins[at][0] / (GAMMA + 1.0) <= bound_s * 1000.0:
            seen += bins[at][1]
            at += 1
        told.append((repr(float(bound_s)), float(seen)))
    return [*told, ("+Inf", float(sketch.count))]


def _codes(sums: Mapping[str, Sums], name: str) -> dict[tuple[str, ...], float]:
    return {(variant, code): n for variant, each in sums.items() for code, n in getattr(each, name).items()}


def _each(sums: Mapping[str, Sums], figure: Callable[[Sums], float | None]) -> dict[tuple[str, ...], float | None]:
    return {(variant,): figure(each) for variant, each in sums.items()}
