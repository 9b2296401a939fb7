"""Where the planner's step law comes from: a Freehold's own step log, else what the client saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from freehold.core import Record, StepRecord
from freehold.errors import FreeholdError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freehold.profile import Profile
    from freehold.sample import Sample
    from freehold.sizing.steplaw import Fit

KEPT_STEPS = 4096


class Known(Record, frozen=True):
    """A server as the planner sees it."""

    profile: Profile
    gap_ms: float
    error: float
    """Of the law, on what it was fitted to."""
    source: str


def learn(url: str, model: str, api_key: str | None, samples: Sequence[Sample], instances: int) -> Known:
    """The law of one instance of `model` behind `url`. Raises `UsageError` where too little was seen."""
    from freehold.sizing.steplaw import fit_samples, fit_steps

    card, steps = _ask(url, model, api_key)
    try:
        fit, source = fit_steps(steps), f"{len(steps)} steps that {url} logged"
    except FreeholdError:
        fit, source = fit_samples(samples), f"{len(samples)} answers as the client saw them"
    places = int(card.get("max_batch") or _most_at_once(samples) / max(1, instances)) or 1
    return Known(profile=_profile(card, model, fit, places), gap_ms=fit.gap_ms, error=fit.error, source=source)


def workers(url: str, api_key: str | None) -> int:
    """Instances behind `url`, where it tells; 1 for any other server."""
    return max(1, len(rows(url, api_key)))


def rows(url: str, api_key: str | None) -> list[dict[str, Any]]:
    """The workers of a Freehold; none of any other server."""
    from freehold.cli.http import get_json

    try:
        return list(get_json(url, "/freehold/workers", api_key)["workers"])
    except (FreeholdError, KeyError, TypeError):
        return []


def engine_of(url: str, model: str, api_key: str | None) -> tuple[str, int]:
    """(engine, threads of a worker) of a Freehold's model; ("", 0) of any other server."""
    from freehold.cli.http import get_json

    try:
        models = get_json(url, "/freehold/info", api_key)["models"]
    except (FreeholdError, KeyError):
        return "", 0
    card: dict[str, Any] = next((each for each in models if each["id"] == model), {})
    return str(card.get("engine", "")), int(card.get("threads") or 0)


def steps_of(url: str, api_key: str | None, worker: str, last: int) -> list[StepRecord]:
    """The newest steps of a Freehold's worker."""
    from freehold.cli.http import get_json

    steps = get_json(url, f"/freehold/workers/{worker}/steps?last={last}", api_key)["steps"]
    return [msgspec.convert(list(step.values()), StepRecord) for step in steps]


def _ask(url: str, model: str, api_key: str | None) -> tuple[dict[str, Any], list[StepRecord]]:
    """Card and step log of a Freehold; nothing of any other server."""
    from freehold.cli.http import get_json

    try:
        models = get_json(url, "/freehold/info", api_key)["models"]
        steps = [step for row in rows(url, api_key) for step in steps_of(url, api_key, str(row["name"]), KEPT_STEPS)]
    except (FreeholdError, KeyError, TypeError, msgspec.ValidationError):
        return {}, []
    return next((card for card in models if card["id"] == model), {}), steps


def _profile(card: dict[str, Any], model: str, fit: Fit, places: int) -> Profile:
    import datetime

    from freehold.profile import Profile

    context = int(card.get("context_tokens") or 131_072)
    return Profile(
        name=model, model=model, engine=str(card.get("engine", "unknown")), machine="behind the URL",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(), source="fitted while it was measured",
        step=fit.law, sweet_batch=places, max_batch=places, context_tokens=context,
        kv_bytes_per_token=int(card.get("kv_bytes_per_token") or 0),
    )  # fmt: skip


def _most_at_once(samples: Sequence[Sample]) -> int:
    """The most answers that were being written at one moment."""
    turns = sorted(
        turn for s in samples if s.first_s is not None and s.outcome == "ok" for turn in ((s.first_s, 1), (s.end_s, -1))
    )
    most = now = 0
    for _, change in turns:
        now += change
        most = max(most, now)
    return max(1, most)
