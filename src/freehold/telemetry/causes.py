"""Why it is so, as far as the slots tell: the last minutes held against the hour before.

Asked in the order of what explains the others: a worker that is gone makes a queue, a queue makes no worker go. What
speaks for nothing is said to be unknown. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Literal

from freehold.core import Record
from freehold.sketch import Sketch
from freehold.telemetry.measures import LEAST_ENDED
from freehold.telemetry.past import Past, pour
from freehold.telemetry.rules import Rule
from freehold.telemetry.slot import Metric, Part, Slot
from freehold.telemetry.standing import memory_share

Kind = Literal["worker", "memory", "steps", "prefill", "client", "queue", "demand", "unknown"]

RECENT_S = 300.0
GROWN = 1.5
"""Over before: so much that it explains something."""
SAME_BATCH = 1.2
DOMINATES = 0.5
"""Of the p99 from received to the end."""
MEMORY_HIGH, KV_HIGH = 0.85, 0.95
CANCELLED_HIGH = 0.2
ONE_WORKERS = ("load_failures", "hung", "restarts")
"""Metrics that are of a worker by themselves."""


class Cause(Record, frozen=True):
    """`text` is a sentence for whoever is woken by it."""

    kind: Kind
    text: str = ""
    numbers: dict[str, float] = {}


class Facts(Record, frozen=True):
    """What some slots say of a variant, and of the server. None: not known."""

    ended: int = 0
    per_s: float = 0.0
    queue_depth: int = 0
    running: int = 0
    batch_mean: float | None = None
    step_ms: float | None = None
    e2e_ms: float | None = None
    """p99, like the two below."""
    queue_ms: float | None = None
    ttft_ms: float | None = None
    prompt_tokens: float | None = None
    """A request; so the next."""
    answer_tokens: float | None = None
    cancelled_share: float = 0.0
    kv_usage: tuple[float, str] = (0.0, "")
    memory_share: tuple[float, str] = (0.0, "")
    troubles: tuple[str, ...] = ()
    """Of single workers, in words."""
    slow_worker: tuple[float, str] = (0.0, "")
    """How many times slower than the others its steps are."""

    @property
    def prefill_ms(self) -> float | None:
        """From claimed to the first token, about."""
        if self.ttft_ms is None or self.queue_ms is None:
            return None
        return max(0.0, self.ttft_ms - self.queue_ms)


def likely(past: Past, labels: dict[str, str], rule: Rule) -> Cause:
    """The likely cause of what `rule` has just found."""
    if rule.metric in ONE_WORKERS:
        return _alone(past, labels.get("worker", ""))
    if rule.metric == "runaways":
        return Cause(kind="client", text="Clients: no limit was asked for, and the model did not stop by itself.")
    recent_s = min(RECENT_S, max(rule.window_s, rule.for_s, 3 * past.slot_s))
    if rule.metric == "stalled":
        recent_s = rule.window_s  # before it things moved, and say nothing of it
    begin_s = past.now_s - recent_s
    slots = list(past.slots)
    recent = [slot for slot in slots if slot.begin_unix_s >= begin_s - past.slot_s / 100]
    before = slots[: len(slots) - len(recent)]
    variant = labels.get("variant") or _busiest(recent)
    return judge(facts(recent, variant), facts(before, variant))


def judge(now: Facts, before: Facts) -> Cause:
    """The first that holds."""
    known = before if before.ended >= LEAST_ENDED else Facts()
    for ask in _ASKED:
        found = ask(now, known)
        if found is not None:
            return found
    return Cause(kind="unknown")


def _alone(past: Past, worker: str) -> Cause:
    """What befell one worker: whether the others are well."""
    ready = past.slots[-1].workers if past.slots else {}
    others = ready.get("ready", 0) + ready.get("busy", 0)
    text = f"One worker: {worker}; others are ready." if others else "No worker is ready."
    return Cause(kind="worker", text=text, numbers={"workers_ready": float(others)})


# ---- one after the other ----------------------------------------------------------------------------


def _still(now: Facts, before: Facts) -> Cause | None:
    if now.ended or now.batch_mean is not None or not (now.running or now.queue_depth):
        return None
    text = f"No worker makes a step; {now.running} requests are begun and {now.queue_depth} wait."
    return Cause(kind="worker", text=text, numbers={"running": float(now.running)})


def _worker(now: Facts, before: Facts) -> Cause | None:
    if now.troubles:
        return Cause(kind="worker", text=f"One worker: {'; '.join(now.troubles)}.")
    times, name = now.slow_worker
    if times >= GROWN:
        text = f"One worker: the steps of {name} take {times:.1f} times those of the others."
        return Cause(kind="worker", text=text, numbers={"slower": times})
    return None


def _memory(now: Facts, before: Facts) -> Cause | None:
    share, name = now.memory_share
    if share >= MEMORY_HIGH:
        text = f"Memory: {name} uses {share:.0%} of its limit."
        return Cause(kind="memory", text=text, numbers={"memory_share": share})
    share, name = now.kv_usage
    if share >= KV_HIGH:
        text = f"Memory: the KV cache of {name} is {share:.0%} full, so it takes nothing new."
        return Cause(kind="memory", text=text, numbers={"kv_usage": share})
    return None


def _steps(now: Facts, before: Facts) -> Cause | None:
    """Slower with a batch that is no larger."""
    slower, fuller = _times(now.step_ms, before.step_ms), _times(now.batch_mean, before.batch_mean)
    if slower is None or slower < GROWN or fuller is None or fuller > SAME_BATCH:
        return None
    text = f"The machine: steps take {slower:.1f} times as long as before ({now.step_ms:.3g} ms), with no larger batch."
    return Cause(kind="steps", text=text, numbers={"slower": slower})


def _prefill(now: Facts, before: Facts) -> Cause | None:
    """Prompts have grown, or reading them is most of the time."""
    longer, read = _times(now.prompt_tokens, before.prompt_tokens), _part_of(now.prefill_ms, now.e2e_ms)
    if longer is not None and longer >= GROWN and (read is None or read >= DOMINATES / 2):
        text = f"Prefill: prompts are {longer:.1f} times as long as before ({now.prompt_tokens:.0f} tokens)."
        return Cause(kind="prefill", text=text, numbers={"longer_prompts": longer})
    if read is not None and read >= DOMINATES:
        text = f"Prefill: {read:.0%} of the p99 passes between the worker's claim and the first token."
        return Cause(kind="prefill", text=text, numbers={"prefill_share": read})
    return None


def _client(now: Facts, before: Facts) -> Cause | None:
    longer = _times(now.answer_tokens, before.answer_tokens)
    if longer is not None and longer >= GROWN:
        text = f"Clients: answers are {longer:.1f} times as long as before ({now.answer_tokens:.0f} tokens)."
        return Cause(kind="client", text=text, numbers={"longer_answers": longer})
    if now.cancelled_share >= CANCELLED_HIGH and now.cancelled_share >= GROWN * before.cancelled_share:
        text = f"Clients: {now.cancelled_share:.0%} of the requests are given up before their end."
        return Cause(kind="client", text=text, numbers={"cancelled_share": now.cancelled_share})
    return None


def _queue(now: Facts, before: Facts) -> Cause | None:
    waits = _part_of(now.queue_ms, now.e2e_ms)
    more = now.per_s / before.per_s if before.per_s else None
    if (waits is None or waits < DOMINATES) and not (more and more >= GROWN and now.queue_depth > before.queue_depth):
        return None
    text = f"The queue: {now.queue_depth} wait"
    text += f", {waits:.0%} of the p99 is waiting" if waits is not None else ""
    text += f"; {now.per_s:.3g} requests/s end, {before.per_s:.3g} before." if before.per_s else "."
    numbers = {"queue_depth": float(now.queue_depth), "requests_per_s": now.per_s}
    return Cause(kind="queue", text=text, numbers=numbers)


def _demand(now: Facts, before: Facts) -> Cause | None:
    if not before.per_s or now.per_s * GROWN > before.per_s or now.queue_depth > before.queue_depth:
        return None
    text = f"Demand: {now.per_s:.3g} requests/s end, {before.per_s:.3g} before, on the same machine."
    return Cause(kind="demand", text=text, numbers={"requests_per_s": now.per_s, "before_per_s": before.per_s})


_ASKED: tuple[Callable[[Facts, Facts], Cause | None], ...] = (
    _still, _worker, _memory, _steps, _prefill, _client, _queue, _demand,
)  # fmt: skip


# ---- gathering --------------------------------------------------------------------------------------


def facts(slots: Sequence[Slot], variant: str) -> Facts:
    """Of all these slots together."""
    if not slots:
        return Facts()
    parts = [slot.parts[variant] for slot in slots if variant in slot.parts]
    ended = sum(part.ok + part.failed + part.expired + part.cancelled for part in parts)
    steps, running = sum(part.steps for part in parts), sum(part.step_running for part in parts)
    cancelled, oks = sum(part.cancelled for part in parts), sum(part.ok for part in parts)
    return Facts(
        ended=ended,
        per_s=ended / sum(slot.seconds for slot in slots),
        queue_depth=max(slot.queue_depth for slot in slots),
        running=slots[-1].running,
        batch_mean=running / steps if steps else None,
        step_ms=_quantile(parts, "step", 0.5),
        e2e_ms=_quantile(parts, "e2e", 0.99),
        queue_ms=_quantile(parts, "queue", 0.99),
        ttft_ms=_quantile(parts, "ttft", 0.99),
        prompt_tokens=sum(part.prompt_tokens for part in parts) / ended if ended else None,
        answer_tokens=sum(part.useful_tokens for part in parts) / oks if oks else None,
        cancelled_share=cancelled / ended if ended >= LEAST_ENDED else 0.0,
        kv_usage=_most(slot.kv_usage for slot in slots),
        memory_share=_most(memory_share(slot) for slot in slots),
        troubles=tuple(_troubles(slots)),
        slow_worker=_slow_worker(slots),
    )


def _troubles(slots: Iterable[Slot]) -> list[str]:
    """What befell single workers, each once."""
    failed: dict[str, str] = {}
    hung: dict[str, int] = {}
    died: dict[str, int] = {}
    for slot in slots:
        failed |= slot.load_failures
        for counts, into in ((slot.hung, hung), (slot.deaths, died)):
            for worker, count in counts.items():
                into[worker] = into.get(worker, 0) + count
    told = [f"{worker} did not load ({why.rstrip('.')})" for worker, why in failed.items()]
    told += [f"{worker} hung" for worker in hung]
    return told + [f"{worker} was restarted {count} times" for worker, count in died.items() if worker not in hung]


def _slow_worker(slots: Sequence[Slot]) -> tuple[float, str]:
    """The slowest one's mean step over the median of the others'."""
    steps: dict[str, list[float]] = {}
    for slot in slots:
        for worker, ms in slot.step_ms.items():
            steps.setdefault(worker, []).append(ms)
    means = {worker: fmean(each) for worker, each in steps.items()}
    if len(means) < 2:
        return 0.0, ""
    slowest = max(means, key=lambda worker: means[worker])
    others = median(ms for worker, ms in means.items() if worker != slowest)
    return (means[slowest] / others, slowest) if others > 0 else (0.0, "")


def _busiest(slots: Iterable[Slot]) -> str:
    counts: dict[str, int] = {}
    for slot in slots:
        for variant, part in slot.parts.items():
            counts[variant] = counts.get(variant, 0) + part.ok + part.failed + part.cancelled + part.steps
    return max(counts, key=lambda variant: counts[variant], default="")


def _quantile(parts: Iterable[Part], metric: Metric, q: float) -> float | None:
    whole = Sketch()
    for part in parts:
        if metric in part.sketches:
            pour(part.sketches[metric], whole)
    return whole.quantile(q)


def _most(by_worker: Iterable[dict[str, float]]) -> tuple[float, str]:
    return max(((value, worker) for each in by_worker for worker, value in each.items()), default=(0.0, ""))


def _times(now: float | None, before: float | None) -> float | None:
    return now / before if now is not None and before else None


def _part_of(part: float | None, whole: float | None) -> float | None:
    return min(1.0, part / whole) if part is not None and whole else None
