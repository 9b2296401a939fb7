"""OpenTelemetry traces: one span tree a request, built from its row at its end, by a thread of its own.

The root is the request as its client saw it, its children are what it waited for: to be accepted, in the queue, for
the first token, for the others, to be delivered. Attributes follow the semantic conventions for generative AI. Needs
the extra `otlp`. A collector that is away loses the spans of that time, and nothing waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from freehold import __version__, log
from freehold.errors import ConfigError
from freehold.telemetry.genai import OPERATIONS, PROVIDER
from freehold.telemetry.row import Row
from freehold.tracing import parse, span_of, trace_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

EVERY_S = 1.0
MOST_WAITING = 5000
AT_ONCE = 256
LEAVE_S = 5.0
EXPORT_S = 5.0
HOPS = (
    ("accept", None, "accepted_ms"), ("queue", "accepted_ms", "claimed_ms"), ("prefill", "claimed_ms", "first_ms"),
    ("decode", "first_ms", "last_ms"), ("deliver", "last_ms", "delivered_ms"),
)  # fmt: skip
"""Children: name, and the stamps between which each lies."""


class Traces:
    """`add` from any thread; the rest is the thread's."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint`: as OTEL_EXPORTER_OTLP_ENDPOINT, without /v1/traces. Raises `ConfigError` without the extra."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
        except ImportError as error:
            why = f"A package is missing: {error.name}."
            raise ConfigError(
                "observe.otlp_endpoint needs the extra otlp.", why, "pip install 'freehold[otlp]'"
            ) from error
        self.lost = 0
        """Requests whose spans did not arrive."""
        self._exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)
        self._resource = Resource.create({"service.name": "freehold", "service.version": __version__})
        self._waiting: list[Row] = []
        self._lock = threading.Lock()
        self._leave = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def add(self, row: Row) -> None:
        """To be sent within a second or so, unless its client's trace isn't sampled."""
        parent = parse(row.traceparent) if row.traceparent else None
        if parent is not None and not parent.sampled:
            return
        with self._lock:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(row)
            else:
                self.lost += 1

    def close(self) -> None:
        self._leave.set()
        self._thread.join(LEAVE_S)

    # ---- below: in the thread --------------------------------------------------------------------

    def _run(self) -> None:
        leaving = False
        while not leaving:
            leaving = self._leave.wait(EVERY_S)
            with self._lock:
                rows, self._waiting = self._waiting, []
            for at in range(0, len(rows), AT_ONCE):
                self._send(rows[at : at + AT_ONCE])
        self._exporter.shutdown()

    def _send(self, rows: list[Row]) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        spans = [span for row in rows for span in spans_of(row, self._resource)]
        failed = self._exporter.export(spans) is not SpanExportResult.SUCCESS
        if failed:
            self.lost += len(rows)
        if failed != self._failing:
            self._failing = failed
            log.event(
                "traces.failed" if failed else "traces.go_on", level="warning" if failed else "info", lost=self.lost
            )


def spans_of(row: Row, resource: Any) -> Iterator[ReadableSpan]:
    """The root and its children, as the SDK's spans."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(trace_id: str, span_id: str, *, remote: bool = False) -> SpanContext:
        return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED))

    def at_ns(ms: float) -> int:
        return int((row.received_unix_s + ms / 1000.0) * 1e9)

    parent = parse(row.traceparent) if row.traceparent else None
    trace_id = trace_of(row.id) if parent is None else parent.trace_id
    own = context(trace_id, span_of(row.id))
    operation = OPERATIONS.get(row.route, "chat")
    failed = row.outcome not in ("ok", "cancelled")
    yield ReadableSpan(
        name=f"{operation} {row.model}".rstrip(), context=own, kind=SpanKind.SERVER, resource=resource,
        parent=None if parent is None else context(trace_id, parent.span_id, remote=True),
        attributes=attributes_of(row, operation), start_time=at_ns(0.0), end_time=at_ns(row.delivered_ms),
        status=Status(StatusCode.ERROR, row.code) if failed else Status(StatusCode.UNSET),
    )  # fmt: skip
    for name, begin, end in HOPS:
        begin_ms = 0.0 if begin is None else getattr(row, begin)
        end_ms = getattr(row, end)
        if begin_ms is not None and end_ms is not None and end_ms >= begin_ms:
            yield ReadableSpan(
                name=name, context=context(trace_id, span_of(f"{row.id}/{name}")), parent=own, resource=resource,
                kind=SpanKind.INTERNAL, start_time=at_ns(begin_ms), end_time=at_ns(end_ms),
            )  # fmt: skip


def attributes_of(row: Row, operation: str) -> dict[str, Any]:
    """What isn't known is left out."""
    told: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": row.model,
        "gen_ai.response.id": row.id,
        "gen_ai.usage.input_tokens": row.prompt_tokens,
        "gen_ai.usage.output_tokens": row.completion_tokens,
        "http.route": row.route,
        "http.response.status_code": row.status,
        "error.type": row.code,
        "freehold.outcome": row.outcome,
        "freehold.variant": row.variant,
        "freehold.worker": row.worker,
        "freehold.attempts": row.attempts,
        "freehold.tenant": row.tenant,
        "freehold.cached_tokens": row.cached_tokens,
    }
    return {name: value for name, value in told.items() if value not in ("", 0)}
