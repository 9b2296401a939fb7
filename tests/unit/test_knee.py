"""The search on servers whose knee is known, and the plain answers where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.errors import FreeholdError
from freehold.sample import Sample
from freehold.sizing.answer import answer
from freehold.sizing.bracket import Guess, Ladder, guess, rising_fit
from freehold.sizing.cause import cause
from freehold.sizing.evidence import Trial
from freehold.sizing.found import Plan, Progress
from freehold.sizing.knee import Search
from freehold.sizing.plot import Point, plot
from freehold.sizing.posterior import Posterior, Weighed, grid, lowest, spread_of
from freehold.sizing.sequential import overall, standings
from freehold.sizing.synthetic import Batches, Queue, Steps, Synthetic, poisson
from freehold.slo import parse

QUEUE = Queue(service_s=0.02)
STEPS = Steps(base_s=0.01, sequence_s=0.0005, prefill_s=0.004, tokens=20, most=16)


def mm1_knee(service_s: float, allowed: float, limit_s: float) -> float:
    """The rate at which a share `allowed` of an M/M/1 queue's answers takes longer than `limit_s`."""
    return 1 / service_s + math.log(allowed) / limit_s


# ---- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_knee_of_a_queue(seed: int) -> None:
    found = Search(Synthetic(QUEUE, seed=seed), parse("p99 e2e < 300ms")).run(seed=100 * seed)
    true = mm1_knee(0.02, 0.01, 0.3)
    assert found.outcome == "found"
    assert found.seconds <= 600
    assert found.knee_per_s == pytest.approx(true, rel=0.2)
    assert 0.95 * found.low_per_s <= true <= 1.05 * found.high_per_s


def test_the_first_of_several_to_break_decides() -> None:
    slo = parse("p95 e2e < 300ms, p99 e2e < 2s, error rate < 1%")
    found = Search(Synthetic(QUEUE), slo).run(seed=5)
    assert found.binding == slo[0]
    assert found.knee_per_s == pytest.approx(mm1_knee(0.02, 0.05, 0.3), rel=0.15)


def test_the_same_seed_gives_the_same_answer() -> None:
    plan = Plan(longest_s=60.0)
    one, two = (Search(Synthetic(STEPS), parse("p95 ttft < 200ms"), plan).run(seed=3) for _ in range(2))
    assert one == two


def test_no_rate_keeps_a_limit_below_one_users_time() -> None:
    search = Search(Synthetic(QUEUE), parse("p99 e2e < 20ms"))
    found = search.run()
    assert (found.outcome, found.knee_per_s) == ("none", 0.0)
    assert not found.tried
    assert answer(search, found).recommended_per_s == 0


def test_beyond_what_the_client_can_send() -> None:
    search = Search(Synthetic(QUEUE, ceiling_per_s=15.0), parse("p99 e2e < 300ms"))
    found = search.run()
    assert (found.outcome, found.knee_per_s, found.high_per_s) == ("beyond", 15.0, math.inf)
    assert all(tried.rate_per_s <= 15 for tried in found.tried)
    told = msgspec.json.decode(msgspec.json.encode(answer(search, found)))
    assert told["high_per_s"] is None


class Scripted:
    """A probe that answers every request as told."""

    ceiling_per_s = math.inf

    def __init__(self, **sample: object) -> None:
        self.told = sample

    def _samples(self, gap_s: float) -> Iterator[tuple[float, list[Sample]]]:
        for i in range(400):
            at = {"intended_s": i * gap_s, "sent_s": i * gap_s, "end_s": (i + 1) * gap_s, "first_s": (i + 1) * gap_s}
            yield (i + 1) * gap_s, [Sample(**({"number": i, "outcome": "ok"} | at | self.told))]  # type: ignore[arg-type]

    def open(self, rate_per_s: float, seed: int) -> Iterator[tuple[float, list[Sample]]]:
        return self._samples(1 / rate_per_s)

    def closed(self, users: int) -> Iterator[tuple[float, list[Sample]]]:
        return self._samples(0.05)


def test_a_server_that_only_fails_is_no_measurement() -> None:
    with pytest.raises(FreeholdError, match="Every request failed") as caught:
        Search(Scripted(outcome="failed", error="model not loaded"), parse("p99 e2e < 1s")).run()
    assert "model not loaded" in caught.value.why


def test_whoever_watches_hears_of_rungs_and_trials() -> None:
    heard: list[Progress] = []
    found = Search(Synthetic(STEPS), parse("p99 e2e < 2s"), Plan(longest_s=40.0), heard.append).run()
    assert [each.rung for each in heard if each.rung] == list(found.ladder)
    assert {each.number for each in heard if not each.rung} == set(range(1, len(found.tried) + 1))


# ---- the ladder -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 10)), min_size=1, max_size=12))
def test_the_rising_fit_rises_and_keeps_the_mean(pairs: list[tuple[float, float]]) -> None:
    values, weights = [v for v, _ in pairs], [w for _, w in pairs]
    fitted = rising_fit(values, weights)
    assert len(fitted) == len(values)
    assert (np.diff(fitted) >= -1e-9).all()
    assert np.dot(fitted, weights) == pytest.approx(np.dot(values, weights))


def test_littles_law_holds_and_the_guess_is_near() -> None:
    ladder = Ladder(parse("p99 e2e < 300ms"))
    ladder.climb(Synthetic(QUEUE, seed=2), 60.0)
    assert all(rung.holds for rung in ladder.rungs)
    assert ladder.capacity_per_s == pytest.approx(50, rel=0.15)
    assert guess(ladder, 0).rate_per_s == pytest.approx(mm1_knee(0.02, 0.01, 0.3), rel=0.2)


class Bursts(Synthetic):
    """From four users on, answers come all at once after a long silence."""

    def closed(self, users: int) -> Iterator[tuple[float, list[Sample]]]:
        if users < 4:
            yield from super().closed(users)
        for i in range(40):
            ends = 2.0 + i / 1000
            sample = Sample(number=i, intended_s=0.0, sent_s=0.0, end_s=ends, first_s=ends, outcome="ok")
            yield 2.0 + i / 10, [sample]


def test_a_burst_is_no_capacity() -> None:
    ladder = Ladder(parse("p99 e2e < 300ms"))
    ladder.climb(Bursts(QUEUE), 60.0)
    assert [rung.users for rung in ladder.rungs] == [1, 2]
    assert ladder.capacity_per_s == pytest.approx(50, rel=0.3)


def test_an_objective_that_one_user_alone_breaks_is_told_for_certain_and_soon() -> None:
    """A tenth of a lone user's requests miss; a dozen of them can't tell that from one in a hundred."""
    search = Search(Synthetic(QUEUE, seed=4), parse("p99 e2e < 46ms"), Plan(longest_s=60.0))
    found = search.run()
    assert found.outcome == "none"
    assert not found.tried
    assert found.seconds < 20
    assert search.ladder.rungs[0].requests > 12


class Sparse(Synthetic):
    """Its schedule is over after one request, whatever the rate."""

    def open(self, rate_per_s: float, seed: int) -> Iterator[tuple[float, list[Sample]]]:
        yield 0.1, [Sample(number=0, intended_s=0.0, sent_s=0.0, end_s=0.1, first_s=0.1, outcome="ok")]


def test_trials_that_are_over_at_once_use_the_time_up() -> None:
    found = Search(Sparse(QUEUE), parse("p99 e2e < 300ms"), Plan(longest_s=30.0)).run()
    assert len(found.tried) <= 30


@pytest.mark.parametrize("server", [QUEUE, STEPS, Batches(base_s=0.05, each_s=0.01, most=8)])
@pytest.mark.parametrize("users", [1, 5, 40])
def test_a_closed_loop_never_has_more_inside_than_users(server: Queue | Steps | Batches, users: int) -> None:
    run = server.closed(users, 200, np.random.default_rng(1))
    events = sorted([(at, 1) for at in run.arrived] + [(at, -1) for at in run.end])
    assert max(np.cumsum([step for _, step in events])) <= users
    assert len(run.end) == 200
    assert (run.end >= run.first).all()
    assert (run.first > run.arrived).all()


@given(st.integers(0, 1000), st.floats(0.3, 1.5))
def test_the_queue_by_lindley(seed: int, load: float) -> None:
    arrivals = poisson(50 * load, 2.0, np.random.default_rng(seed))
    run = QUEUE.open(arrivals, np.random.default_rng(seed + 1))
    services = np.random.default_rng(seed + 1).gamma(1, 0.02, len(arrivals))
    free_s = 0.0
    for at, service, end in zip(arrivals, services, run.end, strict=True):
        free_s = max(free_s, at) + service
        assert end == pytest.approx(free_s)


# ---- verdicts -------------------------------------------------------------------------------------


def trial_at(load: float, seconds: float, seed: int = 1, slo: str = "p99 e2e < 300ms") -> Trial:
    trial = Trial(parse(slo), 50 * load)
    for now_s, samples in Synthetic(QUEUE).open(50 * load, seed):
        trial.add(now_s, samples)
        if now_s >= seconds:
            break
    return trial


@pytest.mark.parametrize(("load", "verdict"), [(0.2, "pass"), (0.97, "fail"), (1.4, "fail")])
def test_far_from_the_knee_the_verdict_is_certain(load: float, verdict: str) -> None:
    assert overall(standings(trial_at(load, 120).view())) == verdict


def test_nothing_is_judged_before_its_limit_is_over() -> None:
    """At two seconds under a limit of three, the slow ones may still come in time: no request counts."""
    view = trial_at(0.5, 2, slo="p99 e2e < 3s").view()
    assert view.requests == 0
    assert overall(standings(view)) == "open"


def test_a_request_that_never_ends_is_a_miss() -> None:
    trial = Trial(parse("p99 e2e < 1s"), 10.0)
    done = [Sample(number=i, intended_s=i / 10, sent_s=i / 10, end_s=i / 10 + 0.1, outcome="ok") for i in range(100)]
    trial.add(10.5, [sample for sample in done if sample.number % 10])
    view = trial.view()
    judged = 96 - view.warm  # those wanted up to a second before 10.5 s
    assert view.requests == judged
    assert view.misses[0].sum() == sum(number % 10 == 0 for number in range(view.warm, 96))


@given(st.floats(5, 40), st.floats(3, 30))
def test_more_misses_never_move_the_knee_up(knee: float, slope: float) -> None:
    rates = grid(60.0)
    told = []
    for misses in (0.0, 2.0, 8.0, 30.0):
        posterior = Posterior(rates, Guess(rate_per_s=knee, slope=slope), 0.01)
        posterior.update([Weighed(knee, misses, 500.0)])
        assert posterior.chances.sum() == pytest.approx(1)
        told.append(spread_of(rates, lowest([posterior]), 0.9)[1])
    assert told == sorted(told, reverse=True)


# ---- why, and how it looks --------------------------------------------------------------------------


def answered(n: int, queue: float | None, read: float, write: float, **more: object) -> list[Sample]:
    """`n` samples that wait `queue` ms, read `read` and write `write`."""
    first_s = ((queue or 0.0) + read) / 1000
    fields: dict[str, object] = {
        "intended_s": 0.0, "sent_s": 0.0, "first_s": first_s, "end_s": first_s + write / 1000, "queue_ms": queue,
        "outcome": "ok", "output_tokens": 10,
    }  # fmt: skip
    return [Sample(number=i, **(fields | more)) for i in range(n)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (answered(50, 900.0, 20, 100), "queue"),
        (answered(50, 5.0, 900, 100), "prefill"),
        (answered(50, 5.0, 20, 900), "decode"),
        (answered(50, None, 900, 100), "queue"),
        (answered(50, 5.0, 20, 900, sent_s=0.8, first_s=0.82, end_s=0.9, queue_ms=0.0), "client"),
        (answered(50, 5.0, 20, 900, gaps_ms=(10.0,) * 9 + (700.0,)), "memory"),
        (answered(50, 5.0, 20, 100, outcome="refused"), "refusals"),
        (answered(50, 5.0, 20, 100, outcome="timeout"), "failures"),
        (answered(50, 5.0, 20, 100), "none"),
    ],
)
def test_the_cause_is_what_grew(broken: list[Sample], name: str) -> None:
    told = cause(parse("p99 e2e < 500ms")[0], answered(20, 5.0, 20, 100), broken)
    assert told.name == name
    assert 0 <= told.share <= 1


def test_without_a_queue_time_length_tells_reading_from_waiting() -> None:
    long = [
        Sample(
            number=i, intended_s=0, sent_s=0, first_s=i / 50, end_s=i / 50 + 0.1, outcome="ok", input_tokens=20 * i + 20
        )
        for i in range(100)
    ]
    assert cause(parse("p99 ttft < 500ms")[0], answered(20, None, 20, 100), long).name == "prefill"


def test_a_plot_has_its_limit_and_knee() -> None:
    points = [Point(5, 100, 90, 120), Point(8, 200, 150, 300), Point(10, 800, 500, math.inf)]
    text = plot(points, 500.0, (8.0, 9.0, 9.5), title="p99 e2e in ms", columns=40, rows=10)
    lines = text.splitlines()
    assert lines[0] == "p99 e2e in ms"
    assert len(lines) == 13
    assert "limit 500" in text
    assert "▲" in lines[-2]
    assert all(len(line) <= 54 for line in lines[:-1])


def test_nothing_to_plot() -> None:
    assert plot([Point(1, math.inf, 0, math.inf)], 5.0, None, title="") == ""
