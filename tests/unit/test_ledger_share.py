"""Fair shares: the pure rule, and what a tenant that sends ten times as much does to the others in a real store."""

from __future__ import annotations

import heapq
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from freehold import order
from freehold.clock import VirtualClock
from freehold.core import Request, Result, Sampling, Usage
from freehold.ledger.sqlite import SqliteLedger

SLOTS = 8
TOKEN_S = 0.02
OTHERS = ("quiet", "calm")


def ask(id: str, tenant: str, tokens: int = 40, **more: object) -> Request:
    sampling = Sampling(max_tokens=tokens)
    return Request(id=id, model="m", kind="text", tenant=tenant, sampling=sampling, **more)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50)), min_size=2, max_size=60))
def test_while_both_wait_neither_gets_far_ahead(asked: list[tuple[str, int]]) -> None:
    """Served tokens of two backlogged tenants differ by no more than one request of each (the bound of the method)."""
    finish = {"a": 0, "b": 0}
    queue = []
    for arrival, (tenant, cost) in enumerate(asked):
        tag = order.tag_tokens(0, finish[tenant])
        finish[tenant] = tag + cost
        queue.append((tag, arrival, tenant, cost))
    queue.sort()
    largest = {tenant: max((cost for who, cost in asked if who == tenant), default=0) for tenant in "ab"}
    served = {"a": 0, "b": 0}
    left = {tenant: sum(who == tenant for who, _ in asked) for tenant in "ab"}
    for _, _, tenant, cost in queue:
        if not all(left.values()):
            break
        served[tenant] += cost
        left[tenant] -= 1
        assert abs(served["a"] - served["b"]) <= largest["a"] + largest["b"]


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 100), st.integers(1, 100))
def test_a_tag_never_lies_before_the_lane_and_settling_moves_by_the_error(
    virtual: int, finish: int, cost: int, took: int
) -> None:
    tag = order.tag_tokens(virtual, finish)
    assert tag >= virtual
    assert order.settled(tag + cost, cost, took) == tag + took


@given(
    st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=9),
    st.integers(0, 99),
    st.none() | st.integers(0, 99),
)
def test_virtual_time_never_goes_back(served: list[tuple[int, bool]], virtual: int, waiting: int | None) -> None:
    after = order.advanced(virtual, served, waiting)
    assert after >= virtual
    if waiting is not None and all(had_deadline for _, had_deadline in served):
        assert after <= max(virtual, waiting), "a deadline must not put newcomers behind who waits"


def test_a_long_answer_is_charged_to_who_asked_for_it(tmp_path: Path) -> None:
    """Expected to be equal, one tenant's answer took ten times as much: next time the other goes first."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.accept([ask("a1", "a"), ask("b1", "b")])
    for claim in ledger.claim("w:1", 2, "m"):
        took = 400 if claim.request.tenant == "a" else 40
        assert ledger.finish(claim.request.id, claim.attempt, Result(usage=Usage(completion_tokens=took)))
    ledger.accept([ask("a2", "a"), ask("b2", "b"), ask("b3", "b")])
    assert [claim.request.id for claim in ledger.claim("w:1", 9, "m")] == ["b2", "b3", "a2"]
    ledger.close()


def test_a_pause_earns_no_credit(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    for round in range(20):
        ledger.accept([ask(f"a{round}", "a")])
        assert ledger.claim("w:1", 1, "m")
    ledger.accept([ask(f"a-{i}", "a") for i in range(3)] + [ask(f"b-{i}", "b") for i in range(3)])
    got = [claim.request.tenant for claim in ledger.claim("w:1", 6, "m")]
    assert got == ["b", "a", "b", "a", "b", "a"]
    ledger.close()


def waits_s(path: Path, flood: float, *, one_tenant: bool = False, length_s: float = 160.0) -> list[float]:
    """How long the others' requests waited while one tenant sent `flood` requests a second, in virtual time: one
    worker with `SLOTS` places, the queue in a real file. Together the others ask for a fifth of what it can do."""
    clock, chance = VirtualClock(), random.Random(7)
    ledger = SqliteLedger(path, clock=clock)
    rates = {"flood": flood, **dict.fromkeys(OTHERS, 1.0)}
    coming = [
        (when, tenant, chance.randrange(20, 61))
        for tenant, rate in rates.items()
        for when in times(chance, rate, length_s)
    ]
    coming.sort(reverse=True)
    running: list[tuple[float, str, int, int]] = []
    waits, number = [], 0
    while coming and clock.unix_s() < length_s:
        next_s = min(coming[-1][0], running[0][0] if len(running) == SLOTS else coming[-1][0])
        clock.sleep(next_s - clock.unix_s())
        new = []
        while coming and coming[-1][0] <= clock.unix_s():
            _, tenant, tokens = coming.pop()
            number += 1
            new.append(ask(f"{tenant}-{number}", "all" if one_tenant else tenant, tokens))
        ledger.accept(new)
        while running and running[0][0] <= clock.unix_s():
            _, id, attempt, tokens = heapq.heappop(running)
            ledger.finish(id, attempt, Result(usage=Usage(completion_tokens=tokens)))
        for claim in ledger.claim("w:1", SLOTS - len(running), "m"):
            tokens = claim.request.sampling.max_tokens or 0
            heapq.heappush(running, (clock.unix_s() + tokens * TOKEN_S, claim.request.id, claim.attempt, tokens))
            if claim.request.id.startswith(OTHERS):
                waits.append(claim.queued_ms / 1000)
    ledger.close()
    return sorted(waits)


def times(chance: random.Random, rate: float, length_s: float) -> list[float]:
    found, now = [], chance.expovariate(rate)
    while now < length_s:
        found.append(now)
        now += chance.expovariate(rate)
    return found


def p99(values: list[float]) -> float:
    return values[int(0.99 * (len(values) - 1))]


def test_ten_times_as_much_from_one_tenant_leaves_the_others_waits(tmp_path: Path) -> None:
    """At first the flood asks for just what the others leave, so that no place is ever free; then ten times that."""
    before = waits_s(tmp_path / "before.sqlite", 8.5)
    after = waits_s(tmp_path / "after.sqlite", 85.0)
    unfair = waits_s(tmp_path / "unfair.sqlite", 85.0, one_tenant=True, length_s=40.0)
    assert len(before) > 250
    assert len(after) > 250
    assert p99(after) <= 1.2 * p99(before), (p99(before), p99(after))
    assert p99(unfair) > 10 * p99(after), "in one queue the flood would have made them wait"
