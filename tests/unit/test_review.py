"""Shadow sizing on a past whose right answer is known: it was made by playing a fleet."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from freehold.profile import open_profile
from freehold.sizing import past as reviewing
from freehold.sizing.cells import play_in_cells
from freehold.sizing.past import Past, Stood
from freehold.sizing.report import markdown
from freehold.sizing.report.page import page
from freehold.sizing.report.past import review
from freehold.sizing.rightsize import smallest
from freehold.sizing.traffic import poisson
from freehold.sizing.work import Fleet
from freehold.slo import parse

SLO = parse("p99 e2e < 2s, error rate < 1%")


def fleet(slowness: float = 1.0) -> Fleet:
    return Fleet(profile=open_profile("starter-openvino-2core"), replicas=1, slowness=slowness)


def lived(rate: float, ran: int, slowness: float = 1.0) -> Past:
    """What a history would have of a fleet that ran."""
    work = poisson(rate, 120.0, 200, 100, seed=1)
    played = play_in_cells(work, Fleet(profile=fleet().profile, replicas=ran, slowness=slowness))
    count = len(work.arrival_s)
    return Past(
        arrival_unix_s=work.arrival_s + 1.79e9, prompt_tokens=work.prompt_tokens, output_tokens=work.output_tokens,
        e2e_ms=(played.end_s - work.arrival_s) * 1e3, ttft_ms=(played.first_s - work.arrival_s) * 1e3,
        queue_ms=(played.claimed_s - work.arrival_s) * 1e3, tpot_ms=np.full(count, 20.0), outcomes=("ok",) * count,
        codes=("",) * count,
    )  # fmt: skip


def stood(ran: int, **more: float) -> Stood:
    return Stood(seconds=120.0, workers_mean=ran, workers_most=ran, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("slowness", [1.0, 1.6])
def test_it_finds_the_fleet_that_would_have_held(slowness: float) -> None:
    """Whatever the simulator's error is: it is measured and taken out."""
    work = poisson(60.0, 120.0, 200, 100, seed=1)
    right, _ = smallest(work, fleet(slowness), SLO)
    told = reviewing.shadow(lived(60.0, right + 2, slowness), SLO, fleet(), right + 2)
    assert told.sufficed == right
    assert told.slowness == pytest.approx(slowness, rel=0.1)


def test_the_review_says_so_first() -> None:
    past = lived(4.0, 4)
    told = review(past, stood(4), SLO, reviewing.shadow(past, SLO, fleet(), 4))
    assert told.verdict == f"{len(past.outcomes):,} requests: 1 would have held; you ran 4."
    assert "Run 3 fewer" in told.sections[-1].points[0]
    assert "1 would have held" in page(told, "made now")
    assert "| 4 (ran) | held |" in markdown.markdown(told, "made now")


def test_what_failed_is_named_with_its_cost() -> None:
    past = lived(4.0, 1)
    count = len(past.outcomes)
    outcomes = ["ok"] * count
    codes = [""] * count
    for i in range(0, count, 4):
        outcomes[i], codes[i] = "failed", "worker_died"
    past = msgspec.structs.replace(past, outcomes=tuple(outcomes), codes=tuple(codes))
    kept = {each.objective: each.holds for each in reviewing.fared(past, SLO)}
    assert not any(kept.values())
    told = review(past, stood(1, restarts=3, away_s=90.0, cost_usd=1.0, api_usd=3.0), SLO, None, "some-api")
    text = markdown.markdown(told, "now")
    assert "failed with `worker_died`" in text
    assert "Workers restarted 3 times" in text
    assert "$2.00 less than some-api would have cost." in text
    lost, written = reviewing.waste(past)
    assert 0.2 < lost / written < 0.3


def test_without_an_objective_it_says_what_is_missing() -> None:
    past = lived(4.0, 1)
    told = review(past, stood(1), (), None)
    assert "without an objective" in told.verdict
    assert "observe.slo" in told.sections[-1].points[0]
