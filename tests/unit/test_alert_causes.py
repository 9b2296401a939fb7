"""Each cause is found in slots that were made to show it, and none where nothing does."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.telemetry.causes import Cause, likely
from freehold.telemetry.past import Past
from freehold.telemetry.rules import Rule
from freehold.telemetry.slot import Slot
from slots import VARIANT, slot

RULE = Rule(name="slow", metric="p99_e2e_ms", above=500.0, window_s=60.0, for_s=60.0)
USUAL: dict[str, Any] = {
    "e2e": 200.0, "ttft": 30.0, "queue": 5.0, "step": 10.0, "prompt_tokens": 1000, "useful_tokens": 500, "steps": 100,
    "step_running": 400,
}  # fmt: skip
SERVER: dict[str, Any] = {"batch_limit": 8, "step_ms": {"worker-1": 10.0, "worker-2": 10.0}}


def cause(ok: int = 10, server: dict[str, Any] | None = None, **changed: Any) -> Cause:
    """Ten minutes as usual, then one that is changed so."""
    past = Past()
    for number in range(60):
        past.add(slot(number, 10, server=SERVER, **USUAL))
    for number in range(60, 66):
        past.add(slot(number, ok, server={**SERVER, **(server or {})}, **{**USUAL, **changed}))
    return likely(past, {"variant": VARIANT}, RULE)


FOUND = [
    ("worker", {"server": {"step_ms": {"worker-1": 10.0, "worker-2": 31.0}}}, "steps of worker-2 take 3.1 times"),
    ("worker", {"server": {"hung": {"worker-2": 1}, "deaths": {"worker-2": 1}}}, "worker-2 hung."),
    ("worker", {"server": {"deaths": {"worker-1": 1}}}, "worker-1 was restarted 6 times"),
    ("worker", {"server": {"load_failures": {"worker-1": "No space."}}}, "worker-1 did not load (No space)"),
    ("memory", {"server": {"memory_bytes": {"worker-1": 9}, "memory_limit_bytes": {"worker-1": 10}}}, "90% of its"),
    ("memory", {"server": {"kv_usage": {"worker-1": 0.99}}}, "KV cache of worker-1 is 99% full"),
    ("steps", {"step": 30.0, "e2e": 600.0}, "steps take 3.0 times as long as before"),
    ("prefill", {"prompt_tokens": 9000, "ttft": 300.0, "e2e": 600.0}, "prompts are 9.0 times as long"),
    ("prefill", {"ttft": 500.0, "e2e": 600.0}, "82% of the p99 passes between"),
    ("client", {"useful_tokens": 2000, "e2e": 700.0}, "answers are 4.0 times as long"),
    ("client", {"cancelled": 10, "prompt_tokens": 2000}, "50% of the requests are given up"),
    ("queue", {"queue": 700.0, "ttft": 730.0, "e2e": 900.0, "server": {"queue_depth": 90}}, "90 wait, 78% of the p99"),
    ("demand", {"ok": 3, "prompt_tokens": 300, "useful_tokens": 150}, "0.3 requests/s end, 1 before"),
    ("unknown", {}, ""),
]


@pytest.mark.parametrize(("kind", "changed", "text"), FOUND, ids=[f"{each[0]}-{i}" for i, each in enumerate(FOUND)])
def test_a_cause_is_found(kind: str, changed: dict[str, Any], text: str) -> None:
    found = cause(**changed)
    assert found.kind == kind, found
    assert text in found.text


def test_a_fuller_batch_makes_steps_longer_and_isnt_the_machines_fault() -> None:
    assert cause(step=30.0, step_running=1600).kind != "steps"


def test_what_explains_the_others_goes_first() -> None:
    server = {"queue_depth": 90, "deaths": {"worker-1": 2}}
    assert cause(queue=700.0, ttft=730.0, e2e=900.0, server=server).kind == "worker"


def test_without_a_before_nothing_is_compared() -> None:
    past = Past()
    past.add(Slot(begin_unix_s=1000.0))
    assert likely(past, {}, RULE).kind == "unknown"
    past.add(slot(1, 10, **{**USUAL, "useful_tokens": 9000}))
    assert likely(past, {}, RULE).kind == "unknown"
