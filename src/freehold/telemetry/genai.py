"""OpenTelemetry's server metrics for generative AI, by the attributes that its semantic conventions ask for.

Source: OpenTelemetry semantic conventions, "Generative AI metrics", server metrics; the buckets are those it advises.
"""

from __future__ import annotations

from freehold.sketch import Sketch
from freehold.telemetry.row import Row

PROVIDER = "freehold"
OPERATIONS = {
    "/v1/chat/completions": "chat", "/v1/responses": "chat", "/v1/completions": "text_completion",
    "/generate": "text_completion", "/v1/embeddings": "embeddings",
}  # fmt: skip
LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "error_type")
DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
EACH_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

Key = tuple[str, str, str, str]
"""Values of `LABELS`."""


class GenAi:
    """Milliseconds by attributes. Added to once a request."""

    def __init__(self) -> None:
        self.duration: dict[Key, Sketch] = {}
        self.first: dict[Key, Sketch] = {}
        self.each: dict[Key, Sketch] = {}

    def count(self, row: Row) -> None:
        """Requests that reached a model; first and later tokens are those of answers that ended well."""
        operation = OPERATIONS.get(row.route)
        if operation is None or not row.model or row.outcome == "refused":
            return
        key = (operation, PROVIDER, row.model, row.code or ("cancelled" if row.outcome == "cancelled" else ""))
        self.duration.setdefault(key, Sketch()).add(row.delivered_ms)
        if row.outcome != "ok":
            return
        if row.first_ms is not None:
            self.first.setdefault(key, Sketch()).add(row.first_ms)
        if (tpot_ms := row.tpot_ms) is not None:
            self.each.setdefault(key, Sketch()).add(tpot_ms)
