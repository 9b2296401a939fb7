"""The rules that come along: from what was promised, from what the profile says of a step, and what harms any server.

Burn rates and their windows are those of the SRE Workbook (Google, 2018), chapter 5, table 5-8, for a budget of 30
days: 14.4 over an hour is 2 % of it, 6 over six hours 5 %, 1 over three days 10 %; each must hold over a twelfth of
its window too.
"""

from __future__ import annotations

from collections.abc import Sequence

from freehold.slo import Objective
from freehold.telemetry.rules import Rule

NEAR_SLO = 0.96
"""Of a limit: from here on it is about to be broken."""
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


def built_in(objectives: Sequence[Objective] = ()) -> tuple[Rule, ...]:
    """Those of the promises first."""
    return (*_promised(objectives), *_ALWAYS)


def _promised(objectives: Sequence[Objective]) -> list[Rule]:
    found: dict[str, Rule] = {}
    for each in sorted(objectives, key=lambda one: -one.limit_ms):  # of two of one name the stricter stays
        rule = _near(each)
        found[rule.name] = rule
    allowed = sum(each.allowed for each in objectives)
    return [*found.values(), *(_burns(allowed) if 0 < allowed < 1 else ())]


def _near(objective: Objective) -> Rule:
    if objective.metric == "error":
        metric, limit = "error_share", objective.allowed
    else:
        quantile = f"p{round(100 * (1 - objective.allowed), 6):g}"
        metric, limit = f"{quantile}_{objective.metric}_ms", objective.limit_ms
    return Rule(
        name=f"slo-{metric.removesuffix('_ms').replace('_', '-')}", metric=metric, above=NEAR_SLO * limit,
        window_s=MINUTE_S, for_s=5 * MINUTE_S, clear=0.9 * limit, severity="critical",
        what=f"The SLO {objective} is about to be broken",
        advice="Look at the cause; `freehold requests --slowest 20` shows what was slow. Add a worker, or let less in.",
    )  # fmt: skip


def _burns(allowed: float) -> list[Rule]:
    """Fast ones wake somebody, the slow one is for the morning. With a lax SLO none asks for more than half of all."""
    tiers = (("fast", 14.4, HOUR_S), ("steady", 6.0, 6 * HOUR_S), ("slow", 1.0, 3 * DAY_S))
    most = 0.5 / allowed
    return [
        Rule(
            name=f"slo-burn-{name}", metric="burn_rate", above=min(rate, most), allowed=allowed, window_s=window_s,
            short_s=window_s / 12, clear_for_s=MINUTE_S, severity="warning" if name == "slow" else "critical",
            what=f"The SLO's budget of misses goes over {min(rate, most):.3g} times as fast as it lasts",
            advice="See which requests missed it: `freehold requests --outcome failed`, `--slowest 20`.",
        )
        for name, rate, window_s in tiers
    ]  # fmt: skip


_ALWAYS = (
    Rule(
        name="queue-long", metric="queue_per_batch", above=10.0, window_s=10.0, for_s=MINUTE_S, clear=8.0,
        what="More waits than ten batches hold",
        advice="More arrives than is answered: add workers (`engine.workers`), or let callers set deadlines, so that "
        "admission refuses what would come too late.",
    ),
    Rule(
        name="load-failed", metric="load_failures", above=0.0, window_s=2 * MINUTE_S, severity="critical",
        what="A model did not load",
        advice="`freehold workers` shows the error; check the model's file and the memory, then `freehold reload`.",
    ),
    Rule(
        name="worker-hung", metric="hung", above=0.0, window_s=MINUTE_S, severity="critical",
        what="A worker hung and was replaced",
        advice="What it had begun is gone on with elsewhere. If it happens again, look at its log and at the machine.",
    ),
    Rule(
        name="restart-loop", metric="restarts", above=2.0, window_s=10 * MINUTE_S, severity="critical",
        what="A worker dies again and again",
        advice="Its log says why it died; a request that kills it is ended as poisoned. Roll back what was changed.",
    ),
    Rule(
        name="steps-slow", metric="step_ratio", above=2.0, window_s=MINUTE_S, for_s=5 * MINUTE_S, clear=1.5,
        what="Steps take over twice what the profile says of a full batch",
        advice="Something else uses the processor or its memory, or the profile is of another machine: "
        "`freehold doctor`, `freehold profile`.",
    ),
    Rule(
        name="failing", metric="failed_share", above=0.05, window_s=MINUTE_S, for_s=2 * MINUTE_S, clear=0.02,
        severity="critical", what="Requests fail",
        advice="`freehold requests --outcome failed` lists them with their error.",
    ),
    Rule(
        name="refusing", metric="refused_share", above=0.1, window_s=MINUTE_S, for_s=5 * MINUTE_S, clear=0.05,
        what="Many requests are refused",
        advice="The queue is full or deadlines can't be kept. Add workers; `freehold size` says how many it takes.",
    ),
    Rule(
        name="cost-up", metric="cost_ratio", above=1.25, window_s=10 * MINUTE_S, for_s=HOUR_S, clear=1.15,
        clear_for_s=10 * MINUTE_S, what="A successful request costs 25 % more than usual",
        advice="Fewer requests, more failures or longer answers for the same machine: compare with `freehold review`.",
    ),
    Rule(
        name="runaway", metric="runaways", above=0.0, window_s=MINUTE_S,
        what="Answers ran to their limit and were cut",
        advice="See them with `freehold requests`; callers should set max_tokens, and stop where the model doesn't.",
    ),
    Rule(
        name="rambling", metric="rambling", above=0.0, window_s=MINUTE_S, for_s=MINUTE_S,
        what="Answers have become longer than they were for prompts of this length",
        advice="Compare with before a rollout, a new template or a new quantisation; longer answers cost the most.",
    ),
    Rule(
        name="looping", metric="looped_share", above=0.05, window_s=5 * MINUTE_S, for_s=MINUTE_S, clear=0.03,
        what="Answers repeat themselves",
        advice="Set repetition_penalty or a temperature above 0; a lower quantisation may be the reason.",
    ),
    Rule(
        name="memory-high", metric="memory_share", above=0.87, window_s=10.0, for_s=MINUTE_S, clear=0.85,
        what="A worker is near its memory limit, where it is replaced",
        advice="Smaller `engine.kv_cache_mb` or `engine.max_batch`, a higher `engine.memory_limit_mb`; or it leaks.",
    ),
    Rule(
        name="kv-full", metric="kv_usage", above=0.97, window_s=10.0, for_s=5 * MINUTE_S, clear=0.9,
        what="A worker's KV cache is full, so that it can't use its batch",
        advice="Raise `engine.kv_cache_mb`, or lower `engine.context_tokens` or `engine.max_batch`.",
    ),
    Rule(
        name="no-samples", metric="stalled", above=0.0, window_s=MINUTE_S, for_s=MINUTE_S, severity="critical",
        what="Requests are there, and none moves",
        advice="`freehold workers` shows who should answer them; a worker that stands still is replaced by itself.",
    ),
    Rule(
        name="no-telemetry", metric="silence_s", above=60.0, clear_for_s=0.0, severity="critical",
        what="The gateway's telemetry has stopped",
        advice="No other alert can be trusted until it is back: look into the log, restart the gateway.",
    ),
)  # fmt: skip
