"""What `freehold load` shows: one line while it goes on, tables at the end."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.status import Status

    from freehold.loadtest.figures import Figures
    from freehold.loadtest.proof import Dispersion, Proof
    from freehold.sample import Sample
    from freehold.sizing.dependence import Interval

WINDOW_S = 10.0
LINE_S = 5.0
"""Without a terminal, a line so often."""
NAMES = {
    "ttft": "first token, TTFT",
    "itl": "between tokens, ITL",
    "tpot": "a token, TPOT",
    "e2e": "end to end",
    "queue": "server's queue",
    "lateness": "client's lateness",
}


class Live:
    """Rates and percentiles of the last seconds, on one line of a terminal, or now and then where there is none."""

    def __init__(self, console: Console, until_s: float) -> None:
        self._console = console
        self._until_s = until_s
        self._recent: deque[tuple[float, float, float, int, bool]] = deque()
        self._done = self._failed = 0
        self._status: Status | None = None
        self._line_s = time.monotonic() + LINE_S
        if console.is_terminal:
            self._status = console.status("starting", spinner="dots")
            self._status.start()

    def show(self, now_s: float, samples: list[Sample], in_flight: int) -> None:
        for each in samples:
            ok = each.outcome == "ok"
            self._done += ok
            self._failed += not ok
            first_s = each.first_s if each.first_s is not None else each.end_s
            self._recent.append((each.end_s, first_s - each.intended_s, each.end_s - each.intended_s,
                                 each.output_tokens, ok))  # fmt: skip
        while self._recent and self._recent[0][0] < now_s - WINDOW_S:
            self._recent.popleft()
        if self._status is not None:
            self._status.update(self._text(now_s, in_flight))
        elif time.monotonic() >= self._line_s:
            self._line_s = time.monotonic() + LINE_S
            self._console.print(self._text(now_s, in_flight), markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        if self._status is not None:
            self._status.stop()

    def _text(self, now_s: float, in_flight: int) -> str:
        span_s = max(0.25, min(WINDOW_S, now_s))
        good = [each for each in self._recent if each[4]]
        text = f"{now_s:.0f} of {self._until_s:.0f} s  {self._done} answered"
        text += f", {self._failed} not" if self._failed else ""
        text += f", {in_flight} under way  {len(good) / span_s:.1f}/s"
        text += f"  {sum(each[3] for each in good) / span_s:.0f} tokens/s"
        for name, place in (("TTFT", 1), ("e2e", 2)):
            values = sorted(each[place] for each in good)
            if values:
                p50, p99 = values[len(values) // 2], values[min(len(values) - 1, int(0.99 * len(values)))]
                text += f"  {name} p50 {p50 * 1e3:.0f} p99 {p99 * 1e3:.0f} ms"
        return text


def show(console: Console, figures: Figures, proof: Proof | None, sure: Mapping[str, Mapping[str, Interval]]) -> None:
    """`sure`: intervals of some percentiles, by latency."""
    from rich.table import Table

    told = ", ".join(f"{count} {name}" for name, count in figures.outcomes.items() if count)
    console.print(f"\n{figures.asked} requests in {figures.seconds:.1f} s: {told}", highlight=False, soft_wrap=True)
    for message, count in figures.errors.items():
        console.print(f"  {count} x {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("ms", no_wrap=True)
    for heading in ("p50", "p90", "p95", "p99", "most", "mean", "count"):
        table.add_column(heading, justify="right")
    for name, words in NAMES.items():
        if each := figures.latency_ms.get(name):
            row = [f"{value:.2f}" for value in (each.p50, each.p90, each.p95, each.p99, each.most, each.mean)]
            table.add_row(words, *row, str(each.count))
    console.print(table)
    for name, held in sure.items():
        told = ", ".join(f"{p} {of.low:.2f} to {_high(of)}" for p, of in held.items())
        console.print(f"95 % sure, {name}: {told}", style="dim", highlight=False, soft_wrap=True)
    _show_rates(console, figures)
    if proof is not None:
        _show_proof(console, proof)


def _high(of: Interval) -> str:
    """`?` where the data can't bound it."""
    return f"{of.high:.2f}" if math.isfinite(of.high) else "?"


def _show_rates(console: Console, figures: Figures) -> None:
    lines = [
        f"sent {figures.sent_per_s:.2f}/s, answered {figures.answered_per_s:.2f}/s, {figures.in_flight:.1f} under way",
        f"output {figures.output_tokens_per_s:.1f} tokens/s, {figures.tokens_per_s_per_stream:.1f} for each request "
        f"under way; input {figures.input_tokens_per_s:.1f} tokens/s, {figures.cached_share:.0%} of it cached",
        f"mean lengths {figures.mean_input_tokens:.0f} tokens in, {figures.mean_output_tokens:.0f} out",
    ]
    if figures.goodput_per_s is not None and figures.met_share is not None:
        lines.append(f"goodput {figures.goodput_per_s:.2f}/s: {figures.met_share:.2%} kept every SLO")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _show_proof(console: Console, proof: Proof) -> None:
    verdict = f"The client may have been the limit. {proof.why}" if proof.was_limit else "The client was not the limit:"
    console.print(f"\n{verdict}", style="yellow" if proof.was_limit else "", highlight=False, soft_wrap=True)
    per_token = "" if proof.us_per_token is None else f", {proof.us_per_token:.0f} us a token"
    console.print(
        f"  busiest of {proof.processes} processes {proof.cpu_share:.0%} of a core{per_token}; "
        f"1 % sent more than {proof.lateness_p99_ms:.2f} ms late",
        highlight=False,
        soft_wrap=True,
    )
    if proof.ceiling is not None and proof.ceiling_share is not None:
        console.print(
            f"  ceiling, against a server that does nothing: {proof.ceiling.requests_per_s:.0f} requests/s of "
            f"{proof.ceiling.tokens_each} tokens (measured just now); this run used {proof.ceiling_share:.1%} of it",
            highlight=False,
            soft_wrap=True,
        )
    if proof.sent is not None and proof.asked is not None:
        console.print(
            f"  index of dispersion of what was sent {_index(proof.sent)}, of the schedule {_index(proof.asked)}; "
            "Poisson is 1",
            highlight=False,
            soft_wrap=True,
        )


def _index(told: Dispersion) -> str:
    return f"{told.index:.2f} ({told.low:.2f} to {told.high:.2f})"
