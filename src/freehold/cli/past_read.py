"""The history as columns for the review: rows of requests, and how the fleet stood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from freehold.errors import UsageError
from freehold.sample import Sample
from freehold.sizing.past import Past, Stood
from freehold.telemetry.history_read import RowFilter, read_rows, read_slots
from freehold.telemetry.row import MISSES, Row
from freehold.telemetry.slot import Slot

SERVING = ("ready", "busy")
AWAY = ("starting", "loading", "hung", "dead")


def recorded(path: Path, since_unix_s: float, model: str) -> tuple[Past, Stood, str]:
    """(requests, how the fleet stood, the model they asked for). Refusals that were the client's own matter are left
    out: nobody had to carry them. Raises `UsageError` where nothing was recorded."""
    rows = [row for row in read_rows(path, RowFilter(since_unix_s=since_unix_s)) if _asked_for_work(row)]
    names = Counter(row.model for row in rows)
    which = model or (names.most_common(1)[0][0] if names else "")
    rows = [row for row in rows if row.model == which]
    if not rows:
        known = f"There are requests for {', '.join(sorted(names))}." if names else f"{path} has none in that time."
        raise UsageError("There is nothing to review.", known, "Look further back with --days, or name --model.")
    return _columns(rows), _stood(list(read_slots(path, since_unix_s))), which


def samples_of(past: Past) -> list[Sample]:
    """As a load client would have seen them."""
    first = past.arrival_unix_s - past.arrival_unix_s[0]
    found = []
    for i, outcome in enumerate(past.outcomes):
        ttft_ms, e2e_ms, queue_ms = (float(column[i]) for column in (past.ttft_ms, past.e2e_ms, past.queue_ms))
        if outcome == "ok" and ttft_ms == ttft_ms:  # not NaN
            at = float(first[i])
            found.append(
                Sample(
                    number=i, intended_s=at, sent_s=at, end_s=at + e2e_ms / 1e3, outcome="ok",
                    first_s=at + ttft_ms / 1e3, input_tokens=int(past.prompt_tokens[i]),
                    output_tokens=int(past.output_tokens[i]), queue_ms=queue_ms if queue_ms == queue_ms else None,
                )
            )  # fmt: skip
    return found


def _asked_for_work(row: Row) -> bool:
    return bool(row.model) and (row.outcome != "refused" or row.code in MISSES)


def _columns(rows: Sequence[Row]) -> Past:
    def column(values: Sequence[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    return Past(
        arrival_unix_s=column([row.received_unix_s for row in rows]),
        prompt_tokens=np.array([row.prompt_tokens for row in rows], dtype=np.int64),
        output_tokens=np.array([row.completion_tokens for row in rows], dtype=np.int64),
        e2e_ms=column([row.delivered_ms for row in rows]), ttft_ms=column([row.first_ms for row in rows]),
        queue_ms=column([row.queue_ms for row in rows]), tpot_ms=column([row.tpot_ms for row in rows]),
        outcomes=tuple(row.outcome for row in rows), codes=tuple(row.code for row in rows),
    )  # fmt: skip


def _stood(slots: Sequence[Slot]) -> Stood:
    serving = [sum(slot.workers.get(state, 0) for state in SERVING) for slot in slots]
    costs = [slot.cost_usd for slot in slots if slot.cost_usd is not None]
    apis = [slot.api_usd for slot in slots if slot.api_usd is not None]
    return Stood(
        seconds=sum(slot.seconds for slot in slots),
        workers_mean=float(np.mean(serving)) if serving else 1.0,
        workers_most=max(serving, default=1) or 1,
        restarts=sum(slot.restarts for slot in slots),
        away_s=sum(slot.seconds * sum(slot.workers.get(state, 0) for state in AWAY) for slot in slots),
        cost_usd=sum(costs) if costs else None, api_usd=sum(apis) if apis else None,
    )  # fmt: skip
