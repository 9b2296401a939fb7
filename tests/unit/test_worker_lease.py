"""Who keeps a claim: a loop that turns, however long its step; not one that stands still."""

from __future__ import annotations

from freehold.clock import VirtualClock
from freehold.ledger.protocol import LEASE_S, Ledger
from freehold.worker.lease import MOST_STEP_S, RENEW_EVERY_S, Lease


def unopened() -> Ledger:
    raise AssertionError("nothing is renewed here")


def test_it_is_renewed_while_the_loop_turns_and_holds_something() -> None:
    clock = VirtualClock(0.0)
    lease = Lease(unopened, "worker-1:7", clock)
    assert not lease.due()
    lease.turned(True)
    assert lease.due()
    clock.sleep(MOST_STEP_S - 1)
    assert lease.due()
    clock.sleep(2)
    assert not lease.due()
    lease.turned(False)
    assert not lease.due()


def test_several_renewals_fit_into_a_lease() -> None:
    assert RENEW_EVERY_S * 3 < LEASE_S < MOST_STEP_S
