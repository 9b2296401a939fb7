"""Was the client the limit, and was what it sent what was asked? Four answers, computed from the samples.

Lateness: how long after its moment a request was sent. Processor share: of the busiest sending process. Ceiling: what
the same client does against a server that does nothing. Dispersion: how uneven the counts of requests in windows are,
sent against asked.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from freehold.core import Record
from freehold.loadtest.arrivals import Rate, Times
from freehold.loadtest.generator import Closed, play
from freehold.loadtest.null import NullServer
from freehold.loadtest.record import Columns, columns
from freehold.loadtest.target import Api, Ask, Target

LATE_MS = 1.0
LATE_SHARE = 0.05
"""Lateness of more than `LATE_MS` doesn't matter where the median answer takes this much longer."""
BUSY_SHARE = 0.8
CEILING_SHARE = 0.7
PER_WINDOW = 10.0
CEILING_USERS = 64


class Dispersion(Record, frozen=True):
    """Variance over mean of the counts in windows that expect the same number: 1 for Poisson, more for bursts."""

    index: float
    low: float
    high: float
    """95 % interval, from the chi-squared distribution of a variance."""
    windows: int
    per_window: float
    """Requests expected in each."""


class Ceiling(Record, frozen=True):
    """What this client reached against a server that does nothing, on this machine (measured)."""

    requests_per_s: float
    tokens_per_s: float
    tokens_each: int


class Proof(Record, frozen=True):
    processes: int
    cpu_share: float
    """Of one core, of the busiest sending process."""
    us_per_token: float | None
    """Processor time of the client for each output token."""
    lateness_p99_ms: float
    never_sent: int
    """Their time came and they were not sent."""
    sent: Dispersion | None
    asked: Dispersion | None
    ceiling: Ceiling | None
    ceiling_share: float | None
    was_limit: bool
    why: str


def dispersion(
    times_s: Times, rate: Rate | None = None, until_s: float = float("inf"), per_window: float = PER_WINDOW
) -> Dispersion | None:
    """Of the moments `times_s`, up to `until_s`. Under a `rate` that varies, windows are as long as it takes to expect
    `per_window` requests, so a ramp doesn't count as a burst. None for fewer than ten windows."""
    if times_s.size < 2:
        return None
    at = rate.expected(times_s) if rate else (times_s - times_s.min()) * times_s.size / max(np.ptp(times_s), 1e-9)
    total = float(rate.expected(np.array([until_s]))[0]) if rate else times_s.size
    windows = int(total / per_window)
    if windows < 10:
        return None
    counts = np.bincount((at / per_window).astype(np.int64).clip(0, windows), minlength=windows + 1)[:windows]
    index = float(counts.var(ddof=1) / counts.mean())
    freedom = windows - 1
    return Dispersion(
        index=index,
        low=index * freedom / _chi_squared(0.975, freedom),
        high=index * freedom / _chi_squared(0.025, freedom),
        windows=windows,
        per_window=per_window,
    )


def _chi_squared(p: float, freedom: int) -> float:
    """A quantile by Wilson and Hilferty (1931): within 0.5 % from ten degrees of freedom on."""
    part = 2.0 / (9.0 * freedom)
    return float(freedom * (1.0 - part + NormalDist().inv_cdf(p) * part**0.5) ** 3)


def ceiling(api: Api, processes: int, text: str, tokens: int, seconds: float = 1.0) -> Ceiling:
    """Measure it: `CEILING_USERS` users a process who ask for `tokens` tokens each and never think."""
    with NullServer() as server:
        target = Target(url=server.url, model="null", api=api)
        ask = Ask(text=text, output_tokens=tokens)
        load = Closed(users=CEILING_USERS * processes, seconds=seconds)
        rows = columns(
            sample for _, samples in play(target, load, lambda _: ask, processes=processes) for sample in samples
        )
    ok = rows.were("ok")
    took_s = float(rows.end_s[ok].max())
    done = int(ok.sum())
    return Ceiling(requests_per_s=done / took_s, tokens_per_s=done * tokens / took_s, tokens_each=tokens)


def prove(
    rows: Columns,
    cpu_s: list[float],
    wall_s: float,
    *,
    scheduled: bool,
    rate: Rate | None,
    reached: Ceiling | None,
) -> Proof:
    """`scheduled`: an open loop, whose arrivals were asked for, under `rate` where there is one. `cpu_s`: of each
    sending process, in a run of `wall_s`."""
    attempted = ~rows.were("unsent")
    sent_s = np.sort(rows.sent_s[attempted])
    late_ms = np.sort((rows.sent_s - rows.intended_s)[attempted]) * 1e3
    late_p99_ms = float(late_ms[int(np.ceil(0.99 * late_ms.size)) - 1]) if late_ms.size else 0.0
    never = int((rows.intended_s[~attempted] <= wall_s).sum())
    share = max(cpu_s, default=0.0) / wall_s if wall_s else 0.0
    tokens = int(rows.output_tokens.sum())
    used = None
    if reached is not None and wall_s:
        used = max(sent_s.size / wall_s / reached.requests_per_s, tokens / wall_s / max(reached.tokens_per_s, 1e-9))
    ok = rows.were("ok")
    e2e_ms = float(np.median((rows.end_s - rows.intended_s)[ok])) * 1e3 if ok.any() else 0.0
    why = _why(late_p99_ms, e2e_ms, never, share, used)
    asked_s = np.sort(rows.intended_s[rows.intended_s <= wall_s])
    return Proof(
        processes=len(cpu_s),
        cpu_share=share,
        us_per_token=sum(cpu_s) / tokens * 1e6 if tokens else None,
        lateness_p99_ms=late_p99_ms,
        never_sent=never,
        sent=dispersion(sent_s, rate, wall_s) if scheduled else None,
        asked=dispersion(asked_s, rate, wall_s) if scheduled else None,
        ceiling=reached,
        ceiling_share=used,
        was_limit=bool(why),
        why=why,
    )


def _why(late_ms: float, e2e_ms: float, never: int, share: float, used: float | None) -> str:
    """Why the client may have been the limit; empty if it wasn't."""
    if never:
        return f"{never} requests could not be sent: too many open connections for this machine's limit on files."
    if share > BUSY_SHARE:
        return f"A sending process was busy {share:.0%} of the time: use more of them (--processes)."
    if used is not None and used > CEILING_SHARE:
        return f"It ran at {used:.0%} of what it can do at most here: use more processes, or another machine."
    if late_ms > LATE_MS and late_ms > LATE_SHARE * e2e_ms:
        return f"1 % of the requests went out more than {late_ms:.1f} ms late: the machine has too much else to do."
    return ""
