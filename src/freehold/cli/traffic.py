"""Traffic as `knee`, `size` and `simulate` are told of it: a trace made to fit the context, or a rate and lengths.

A request that doesn't fit the context fails at every rate, and nothing but that would be measured. So a trace is cut to
what fits, and the share of requests that were cut is told beside every figure that comes of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.core import Record
from freehold.errors import FreeholdError, UsageError

if TYPE_CHECKING:
    from freehold.loadtest.trace import Trace as Rows
    from freehold.sizing.work import Work

FORMATS = "azure, mooncake, burstgpt, servegen, freehold."
SLO_HELP = '"p99 e2e < 500ms", "p95 ttft < 200ms", "error rate < 1%"; several.'
CONTEXT_NAMES = ("context_tokens", "max_model_len", "context_length", "context_window")
FLEET = "Fleet"

Trace = Annotated[Path | None, typer.Option("--trace", help="Your traffic: arrivals and lengths.")]
TraceFormat = Annotated[str, typer.Option("--trace-format", help=FORMATS)]
Rate = Annotated[float | None, typer.Option("--rate", help="Without a trace: requests/s of Poisson traffic.")]
Input = Annotated[int | None, typer.Option("--input-tokens", min=1, help="128 unless told.")]
Output = Annotated[int | None, typer.Option("--output-tokens", min=1, help="64 unless told.")]
Longest = Annotated[
    int | None,
    typer.Option("--longest", min=1, help="Cut a trace's requests to this context; the model's own if known."),
]
Growth = Annotated[float, typer.Option("--growth", help="So many times the traffic.", rich_help_panel=FLEET)]
Slo = Annotated[list[str], typer.Option("--slo", help=SLO_HELP)]


class Traffic(Record, frozen=True):
    """Traffic as it was asked for."""

    trace: Path | None
    trace_format: str = "auto"
    rate: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    longest: int | None = None
    growth: float = 1.0
    seed: int = 0


class Fitted(Record, frozen=True):
    """A trace that fits a context."""

    trace: Rows
    context_tokens: int | None
    cut_share: float = 0.0

    @property
    def words(self) -> str:
        """What was done to it; empty where nothing was."""
        if not self.cut_share:
            return ""
        return (
            f"{self.cut_share:.1%} of the requests of {self.trace.name} don't fit a context of {self.context_tokens} "
            "tokens and were cut to it: all of this is about the traffic that is left."
        )


def read(asked: Traffic) -> Rows | None:
    """The trace that was named. Raises `UsageError` for one that can't be read or has no requests."""
    from freehold.cli.load_plan import Wanted, trace_of

    if asked.trace is None:
        return None
    if asked.rate or asked.input_tokens or asked.output_tokens:
        raise UsageError("--trace tells rate and lengths already.", next="Leave --rate and the lengths out.")
    return trace_of(Wanted(trace=asked.trace, trace_format=asked.trace_format, seed=asked.seed))


def fitted(trace: Rows | None, asked: Traffic, context_tokens: int | None) -> Fitted | None:
    known = [tokens for tokens in (asked.longest, context_tokens) if tokens]
    if trace is None or not known:
        return None if trace is None else Fitted(trace=trace, context_tokens=None)
    inside, share = trace.within(min(known))
    return Fitted(trace=inside, context_tokens=min(known), cut_share=share)


def context_of(url: str, model: str, api_key: str | None) -> int | None:
    """The context of `model` as its server tells it; None where it doesn't."""
    from freehold.cli.http import get_json

    try:
        listed: list[dict[str, Any]] = get_json(url, "/v1/models", api_key)["data"]
    except (FreeholdError, KeyError):
        return None
    about = next((each for each in listed if each.get("id") == model), {})
    return next((int(about[name]) for name in CONTEXT_NAMES if about.get(name)), None)


def work_of(asked: Traffic, trace: Rows | None, *, seconds: float) -> Work:
    """The trace times growth, or Poisson traffic for `seconds`. Raises `UsageError` where neither is told."""
    from freehold.cli.load_plan import INPUT_TOKENS, OUTPUT_TOKENS
    from freehold.sizing.traffic import grown, poisson

    if trace is not None:
        return grown(trace.at_s, trace.input_tokens, trace.output_tokens, asked.growth, asked.seed)
    if asked.rate is None:
        raise UsageError("Nobody has said how much traffic.", next="Give --trace FILE, or --rate REQUESTS_PER_S.")
    inputs, outputs = asked.input_tokens or INPUT_TOKENS, asked.output_tokens or OUTPUT_TOKENS
    return poisson(asked.rate * asked.growth, seconds, inputs, outputs, asked.seed)
