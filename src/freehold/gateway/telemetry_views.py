"""This gateway's numbers as others are told them: /freehold/stats, /freehold/series, and the facts behind /metrics."""

from __future__ import annotations

import msgspec

from freehold.core import Json, ModelCard
from freehold.gateway.desk import Desk
from freehold.gateway.observe import KEPT_SLOTS, Observe
from freehold.telemetry import figures
from freehold.telemetry.exposition import Facts
from freehold.telemetry.row import variant_of
from freehold.telemetry.series import Point, step_of, told_of
from freehold.telemetry.slot import SLOT_S, Metric
from freehold.telemetry.sums import Sums, all_together
from freehold.telemetry.windows import LEVELS, WINDOWS_S, Whole

METRICS: tuple[Metric, ...] = ("ttft", "itl", "tpot", "e2e", "queue", "step")
COARSE_S = LEVELS[-1][0]


def stats(desk: Desk, window: str) -> Json:
    """The body of /freehold/stats. What isn't known is None."""
    observe = desk.observe
    whole, ever = observe.over(WINDOWS_S[window]), observe.ever()
    cards = _cards(desk)
    everything = all_together(whole.parts.values())
    limit, rollout = sum(observe.batch_limits().values()), desk.supervisor.rollout()
    return {
        "window_s": WINDOWS_S[window],
        "seconds": round(whole.seconds, 3),
        "at_unix_s": observe.clock.unix_s(),
        "slo": [msgspec.to_builtins(each) | _whole_kept(each) for each in figures.judged(observe.objectives, whole)],
        "variants": {
            variant: _variant(observe, sums, ever.parts.get(variant, Sums()), cards.get(variant), whole, everything)
            | {"model": cards[variant].name if variant in cards else variant.partition("@")[0].partition("/")[0]}
            for variant, sums in sorted(whole.parts.items())
            if not sums.empty
        },
        "queue": {
            "depth": desk.waiting,
            "most": whole.queue_depth,
            "tokens": round(sum(backlog.tokens for backlog in desk.intake.backlogs.values())),
            "running": desk.running,
            "batch_limit": limit,
            "depth_per_batch": desk.waiting / limit if limit else None,
        },
        "workers": [{name: getattr(row, name) for name in row.__struct_fields__} for row in desk.fleet.workers()],
        "restarts": whole.restarts,
        "cost": _cost(observe, whole, everything.ok),
        "power_w": observe.meters.power_w if observe.meters is not None else None,
        "gpus": [msgspec.to_builtins(gpu) for gpu in (observe.meters.gpus if observe.meters is not None else ())],
        "load_phases": _load_phases(desk),
        "rollout": None if rollout is None else {name: getattr(rollout, name) for name in rollout.__struct_fields__},
    }


def series(desk: Desk, window: str, points: int, variant: str) -> Json:
    """The body of /freehold/series: an hour or less from slots, a day from what is kept of each ten minutes."""
    observe, window_s = desk.observe, WINDOWS_S[window]
    now_unix_s, now_s = observe.clock.unix_s(), observe.clock.monotonic_s()
    if window_s <= KEPT_SLOTS * SLOT_S:
        return observe.series.told(list(observe.slots), now_unix_s - window_s, step_of(window_s, points), variant)
    coarse = observe.windows.coarse()[-points:]
    return told_of([Point(now_unix_s - (now_s - at_s), whole) for at_s, whole in coarse], COARSE_S, variant)


def facts(desk: Desk) -> Facts:
    """What /metrics is made of. With recording off it has no sums."""
    observe = desk.observe
    if not observe.on:
        return Facts(history_up=None, load_s=_load_phases(desk))
    ever, recent = observe.ever(), observe.over(60.0)
    cards, rows, limits = _cards(desk), desk.fleet.workers(), observe.batch_limits()
    limit, history, meters = sum(limits.values()), observe.history, observe.meters
    lone = {
        variant: pace for variant, sums in ever.parts.items() if (pace := _lone(sums, cards.get(variant))) is not None
    }
    return Facts(
        ever=ever, recent=recent, hour=observe.over(3600.0),
        models={variant: card.name for variant, card in cards.items()},
        lone_tokens_per_s=lone, bandwidth_bytes_per_s=observe.timeline.bandwidth_bytes_per_s,
        queued_tokens=round(sum(backlog.tokens for backlog in desk.intake.backlogs.values())),
        depth_per_batch=desk.waiting / limit if limit else None, batch_limits=limits,
        cost_usd=observe.cost_usd, api_usd=observe.api_usd, cost_drift=observe.drift.ratio,
        power_w=meters.power_w if meters is not None else None, gpus=meters.gpus if meters is not None else (),
        restarts=dict(observe.changes.restarts), load_failures=dict(observe.changes.load_failures),
        hangs=dict(observe.changes.hangs), down_s=dict(observe.changes.down_s), load_s=_load_phases(desk),
        memory_bytes={row.name: row.memory_bytes for row in rows if row.memory_bytes},
        memory_limit_bytes={row.name: row.memory_limit_bytes for row in rows if row.memory_limit_bytes},
        slo=tuple(figures.judged(observe.objectives, observe.over(300.0))), genai=observe.genai,
        history_up=None if history is None else not history.trouble,
        history_lost=0 if history is None else history.lost,
    )  # fmt: skip


def _variant(observe: Observe, sums: Sums, ever: Sums, card: ModelCard | None, whole: Whole, everything: Sums) -> Json:
    batch = figures.batch(sums, _lone(ever, card))
    share = figures.cost_share(sums, everything)
    cost_usd = None if whole.cost_usd is None or share is None else whole.cost_usd * share
    ended = {name: getattr(sums, name) for name in ("ok", "failed", "cancelled", "expired")}
    seconds = whole.seconds
    return {
        "counts": ended | {"refused": sums.refused.total()},
        "refused": dict(sums.refused),
        "failures": dict(sums.failures),
        "requests_per_s": sum(ended.values()) / seconds if seconds else None,
        "tokens_per_s": figures.tokens_per_s(sums, seconds),
        "tokens_per_s_per_sequence": batch.tokens_per_s_per_sequence,
        "batch_mean": batch.mean,
        "batch_limit": observe.batch_limits().get((card and variant_of(card)) or "", 0) or sums.batch_limit or None,
        "batch_efficiency": batch.efficiency,
        **{f"{metric}_ms": figures.percentiles(sums.sketches.get(metric)) for metric in METRICS},
        "goodput_per_s": sums.good / seconds if seconds else None,
        "tokens": {
            "prompt": sums.prompt_tokens,
            "cached": sums.cached_tokens,
            "completion": sums.completion_tokens,
            "ratio": sums.completion_tokens / sums.prompt_tokens if sums.prompt_tokens else None,
        },
        "runaway": sums.runaway,
        "looped": sums.looped,
        "rambling": sums.rambling,
        "longer_answers": sums.longer_answers,
        "cost_per_successful_request_usd": figures.per_success_usd(cost_usd, sums.ok),
        "prefix_reuse": figures.prefix_reuse(sums),
        "mbu": figures.mbu(sums, observe.timeline.bandwidth_bytes_per_s),
    }


def _whole_kept(kept: figures.Kept) -> Json:
    """Fields at their defaults too."""
    return {name: getattr(kept, name) for name in kept.__struct_fields__}


def _cost(observe: Observe, whole: Whole, successes: int) -> Json:
    """`usd`, `api_usd` and `saved_usd` are since this gateway began; the cost of a success is the window's."""
    usd, api_usd = observe.cost_usd, observe.api_usd
    return {
        "usd": usd,
        "api_usd": api_usd,
        "saved_usd": None if usd is None or api_usd is None else api_usd - usd,
        "since_unix_s": observe.since_unix_s,
        "per_successful_request_usd": figures.per_success_usd(whole.cost_usd, successes),
        "baseline_usd": observe.drift.baseline_usd,
        "drift": observe.drift.ratio,
        "against": observe.api.price.model if observe.api is not None else None,
        "against_as_of": observe.api.price.as_of if observe.api is not None else None,
    }


def _cards(desk: Desk) -> dict[str, ModelCard]:
    """By variant, of the workers that are connected."""
    cards = (desk.fleet.card_of(name) for name in desk.fleet.lines)
    return {variant_of(card): card for card in cards if card is not None}


def _lone(ever: Sums, card: ModelCard | None) -> float | None:
    return figures.lone_tokens_per_s(ever, card.pace.lone_step_ms if card is not None and card.pace else None)


def _load_phases(desk: Desk) -> dict[str, dict[str, float]]:
    cards = {name: desk.fleet.card_of(name) for name in desk.fleet.lines}
    return {
        name: {phase.name: phase.seconds for phase in card.phases} for name, card in cards.items() if card is not None
    }
