"""Who keeps a claim: a loop that turns, however long its step; not one that stands still."""

from __future__ import annotations

from freehold.clock import VirtualClock
from freehold.core import ModelCard, Request
from freehold.ledger.protocol import LEASE_S, Ledger
from freehold.profile import StepLaw
from freehold.worker.bound import FLOOR_MS
from freehold.worker.heart import Heart
from freehold.worker.lease import RENEW_EVERY_S, Lease


def unopened() -> Ledger:
    raise AssertionError("nothing is renewed here")


def test_it_is_renewed_while_what_the_heart_allows_isnt_over() -> None:
    clock = VirtualClock(0.0)
    heart = Heart(clock, None)
    lease = Lease(unopened, "worker-1:7", heart, clock)
    card = ModelCard(name="m", engine="sim", source="", max_batch=4, context_tokens=100_000)
    heart.begin(card, StepLaw(1.0, prefill_ms_per_token=2.0))
    assert not lease.due()  # it holds nothing
    lease.turned(True)
    heart.before_step(1, None)
    clock.sleep(FLOOR_MS / 1000 - 1)
    assert lease.due()
    clock.sleep(2)
    assert not lease.due()
    heart.took(Request(id="long", model="m", kind="text", prompt="word " * 10_000))
    heart.before_step(1, None)
    clock.sleep(300)
    assert lease.due()  # a long prompt is read: that takes its time
    clock.sleep(200)
    assert not lease.due()
    heart.between()
    lease.turned(False)
    assert not lease.due()


def test_several_renewals_fit_into_a_lease() -> None:
    assert RENEW_EVERY_S * 3 < LEASE_S
