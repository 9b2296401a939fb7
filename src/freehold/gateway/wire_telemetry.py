"""What the telemetry routes answer, for the OpenAPI document. Null is: not known."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from freehold.gateway.control import Rollout
from freehold.gateway.wire_workers import WorkerReply


class Percentiles(BaseModel):
    """Milliseconds, within 1 %."""

    p50: float | None
    p95: float | None
    p99: float | None
    count: int


class TokenCounts(BaseModel):
    """Of requests that ended; `cached` is part of `prompt`. `ratio`: completion over prompt."""

    prompt: int
    cached: int
    completion: int
    ratio: float | None


class VariantStats(BaseModel):
    """One model variant over the window."""

    model: str
    counts: dict[str, int]
    refused: dict[str, int]
    failures: dict[str, int]
    requests_per_s: float | None
    tokens_per_s: float | None
    tokens_per_s_per_sequence: float | None
    batch_mean: float | None
    batch_limit: int | None
    batch_efficiency: float | None
    ttft_ms: Percentiles
    itl_ms: Percentiles
    tpot_ms: Percentiles
    e2e_ms: Percentiles
    queue_ms: Percentiles
    step_ms: Percentiles
    goodput_per_s: float | None
    tokens: TokenCounts
    runaway: int
    looped: int
    rambling: bool
    longer_answers: float | None
    cost_per_successful_request_usd: float | None
    prefix_reuse: float | None
    mbu: float | None


class SloStats(BaseModel):
    """One objective over the window. `share_kept`: of the requests; of the gaps, for `itl`."""

    text: str
    kept: bool | None
    value_ms: float | None
    limit_ms: float | None
    share_kept: float | None


class QueueStats(BaseModel):
    """Now; `most` is the longest it was in the window."""

    depth: int
    most: int
    tokens: int
    running: int
    batch_limit: int
    depth_per_batch: float | None


class CostStats(BaseModel):
    """`usd`, `api_usd` and `saved_usd` since `since_unix_s`; the cost of a success is the window's."""

    usd: float | None
    api_usd: float | None
    saved_usd: float | None
    since_unix_s: float
    per_successful_request_usd: float | None
    baseline_usd: float | None
    drift: float | None
    against: str | None
    against_as_of: str | None


class GpuStats(BaseModel):
    """As NVML tells it."""

    name: str
    busy: float
    memory_busy: float
    memory_used_bytes: int
    memory_bytes: int
    power_w: float | None = None


class Stats(BaseModel):
    """`window_s` was asked for, `seconds` is what it holds."""

    window_s: float
    seconds: float
    at_unix_s: float
    slo: list[SloStats]
    variants: dict[str, VariantStats]
    queue: QueueStats
    workers: list[WorkerReply]
    restarts: int
    cost: CostStats
    power_w: float | None
    gpus: list[GpuStats]
    load_phases: dict[str, dict[str, float]]
    rollout: Rollout | None
    """The last one of this gateway's own supervisor."""


class Columns(BaseModel):
    """One percentile a list, a value a point."""

    p50: list[float | None]
    p95: list[float | None]
    p99: list[float | None]


class VariantSeries(BaseModel):
    """Of one model variant."""

    ttft_ms: Columns
    itl_ms: Columns
    tpot_ms: Columns
    e2e_ms: Columns
    queue_ms: Columns
    step_ms: Columns
    batch_mean: list[float | None]


class SeriesReply(BaseModel):
    """Columns of the same length, oldest first; a point holds `step_s` seconds. Times without a point are left out."""

    begin_unix_s: list[float]
    step_s: float
    queue_depth: list[int | None]
    running: list[int | None]
    tokens_per_s: list[float | None]
    requests_per_s: list[float | None]
    failed_per_s: list[float | None]
    refused_per_s: list[float | None]
    cost_per_successful_request_usd: list[float | None]
    workers_ready: list[int | None]
    variants: dict[str, VariantSeries]


class RequestList(BaseModel):
    """Rows of the history, as `freehold requests` has them."""

    data: list[dict[str, Any]]
