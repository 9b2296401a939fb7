"""What `freehold load` shall send, from its options: a schedule or a closed loop, and the prompts that go with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from freehold.cli.load_asks import read_asks
from freehold.core import Json
from freehold.errors import UsageError

if TYPE_CHECKING:
    from freehold.loadtest.arrivals import Kind, Rate, Times
    from freehold.loadtest.generator import Closed
    from freehold.loadtest.prompts import Scale
    from freehold.loadtest.target import Prompts
    from freehold.loadtest.trace import Trace

DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|)\s*")
UNITS_S = {"ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
INPUT_TOKENS, OUTPUT_TOKENS = 128, 64
DEFAULT_S = 30.0
SHORT_S = 10.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options that say what is sent; None: not given."""

    rate: float | None = None
    users: int | None = None
    ramp: str | None = None
    steps: str | None = None
    trace: Path | None = None
    arrivals: str = "poisson"
    burstiness: float | None = None
    seconds: str | None = None
    requests: int | None = None
    think: str | None = None
    trace_format: str = "auto"
    skip: str | None = None
    speed: float = 1.0
    share: float = 1.0
    loop: bool = False
    synthesise: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    shared_tokens: int = 0
    spread: float = 0.0
    longest: int | None = None
    prompts: Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent. `told` is it in plain data, for the manifest; `prompts` waits for the server's scale."""

    load: Times | Closed
    prompts: Callable[[Scale], Prompts]
    told: Json = field(default_factory=dict)
    words: str = ""


def plan(wanted: Wanted) -> Plan:
    """Raises `UsageError` for options that don't go together, wrong units, and traces that can't be read."""
    ways = {"--rate": wanted.rate, "--users": wanted.users, "--ramp": wanted.ramp, "--steps": wanted.steps}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} don't go together.", next="Give one of them.")
    if wanted.burstiness is not None and wanted.arrivals != "gamma":
        raise UsageError("--burstiness is for --arrivals gamma.", next="Give both, or neither.")
    if wanted.think is not None and wanted.users is None:
        raise UsageError("--think is for users.", next="Give --users too.")
    trace = trace_of(wanted) if wanted.trace else None
    if wanted.users is not None:
        return _closed(wanted, trace)
    if trace is not None and not given:
        return _replayed(wanted, trace)
    return _open(wanted, trace)


def seconds_of(text: str, what: str) -> float:
    """`30`, `30s`, `10min`, `2h`. Raises `UsageError` for another unit."""
    found = DURATION.fullmatch(text)
    if found is None or not float(found[1]):
        raise UsageError(f"{what} {text!r} is no length of time.", next="Write 500ms, 30s, 10min or 2h.")
    return float(found[1]) * UNITS_S[found[2]]


def _closed(wanted: Wanted, trace: Trace | None) -> Plan:
    from freehold.loadtest.generator import Closed

    assert wanted.users is not None
    seconds = seconds_of(wanted.seconds, "--seconds") if wanted.seconds else DEFAULT_S
    think_s = seconds_of(wanted.think, "--think") if wanted.think else 0.0
    load = Closed(
        users=wanted.users,
        seconds=seconds,
        think_s=think_s,
        think="exponential" if think_s else "constant",
        stagger_s=min(1.0, seconds / 10) if wanted.users > 1 else 0.0,
    )
    if wanted.requests is not None:
        raise UsageError("--requests is for an open loop.", next="Users stop after --seconds.")
    words = f"{wanted.users} users for {seconds:g} s" + (f", thinking {think_s:g} s on average" if think_s else "")
    told = {"loop": "closed", **msgspec.to_builtins(load)}
    return _with_prompts(wanted, trace, load, told, words)


def _open(wanted: Wanted, trace: Trace | None) -> Plan:
    from freehold.loadtest.arrivals import arrivals, steady

    rate = _rate(wanted)
    kind: Kind = _kind(wanted.arrivals)
    times_s = arrivals(rate, kind, burstiness=wanted.burstiness or 1.0, seed=wanted.seed)[: wanted.requests]
    if not times_s.size:
        raise UsageError(f"No request comes in {rate.seconds:g} s at this rate.", next="Ask for more, or for longer.")
    if wanted.requests and times_s.size == wanted.requests:
        rate = steady(wanted.rate, float(times_s[-1])) if wanted.rate and times_s[-1] > 0 else rate
    words = f"{times_s.size} requests in {rate.seconds:.4g} s, {kind}"
    told: Json = {
        "loop": "open",
        "arrivals": kind,
        "phases": [{name: getattr(each, name) for name in each.__struct_fields__} for each in rate.phases],
        "requests": int(times_s.size),
    }
    if kind == "gamma":
        told["burstiness"] = wanted.burstiness or 1.0
    return _with_prompts(wanted, trace, times_s, told, words)


def _replayed(wanted: Wanted, trace: Trace) -> Plan:
    told = {"loop": "open", "arrivals": "replay", "requests": len(trace), "seconds": trace.seconds}
    words = f"{len(trace)} requests of {trace.name} in {trace.seconds:.0f} s ({trace.per_s:.2f}/s)"
    return _with_prompts(wanted, trace, trace.at_s, told, words)


def _with_prompts(wanted: Wanted, trace: Trace | None, load: Times | Closed, told: Json, words: str) -> Plan:
    from freehold.loadtest.prompts import of_length, of_texts, of_trace

    if wanted.prompts is not None:
        texts = of_texts(read_asks(wanted.prompts, wanted.output_tokens))
        return Plan(load, lambda _: texts, {**told, "prompts": str(wanted.prompts)}, words)
    if trace is not None:
        told = {**told, "trace": trace.name, "trace_requests": len(trace), "speed": wanted.speed, "share": wanted.share}
        return Plan(load, lambda scale: of_trace(trace, scale, seed=wanted.seed, longest=wanted.longest), told, words)
    inputs, outputs = wanted.input_tokens or INPUT_TOKENS, wanted.output_tokens or OUTPUT_TOKENS
    lengths = {"input_tokens": inputs, "output_tokens": outputs, "shared_tokens": wanted.shared_tokens}
    return Plan(
        load,
        lambda scale: of_length(
            inputs, outputs, scale, shared_tokens=wanted.shared_tokens, spread=wanted.spread, seed=wanted.seed
        ),
        {**told, **lengths, "spread": wanted.spread},
        f"{words}, {inputs} tokens in and {outputs} out",
    )


def trace_of(wanted: Wanted) -> Trace:
    from freehold.loadtest.trace import KNOWN, read

    assert wanted.trace is not None
    kinds = ("auto", "servegen", *KNOWN)
    if wanted.trace_format not in kinds:
        raise UsageError(f"--trace-format {wanted.trace_format} is not known.", next=f"One of {', '.join(kinds)}.")
    trace = read(wanted.trace, wanted.trace_format, seed=wanted.seed)
    seconds = seconds_of(wanted.seconds, "--seconds") if wanted.seconds else None
    if wanted.synthesise:
        return trace.synthesise(seconds or trace.seconds, trace.per_s * wanted.speed, wanted.seed)
    if wanted.skip:
        trace = trace.cut(seconds_of(wanted.skip, "--skip"))
    if wanted.share != 1.0:
        trace = trace.thin(wanted.share, wanted.seed)
    if wanted.speed != 1.0:
        trace = trace.faster(wanted.speed)
    if wanted.loop and seconds:
        trace = trace.loop(seconds)
    return trace.cut(0.0, seconds or float("inf"), wanted.requests)


def _rate(wanted: Wanted) -> Rate:
    from freehold.loadtest.arrivals import ramp, steady, steps

    seconds = seconds_of(wanted.seconds, "--seconds") if wanted.seconds else None
    if wanted.ramp is not None:
        start, end = _numbers(wanted.ramp, "--ramp", "FROM:TO", 2)
        return ramp(start, end, seconds or DEFAULT_S)
    if wanted.steps is not None:
        return steps(_numbers(wanted.steps, "--steps", "1,2,4"), seconds or SHORT_S)
    if wanted.rate is None:
        raise UsageError("What is to be sent?", next="Give --rate, --users, --ramp, --steps or --trace.")
    if seconds is None and wanted.requests:
        seconds = 2.0 * wanted.requests / wanted.rate + SHORT_S if wanted.rate > 0 else None
    return steady(wanted.rate, seconds or DEFAULT_S)


def _numbers(text: str, option: str, shape: str, count: int = 0) -> list[float]:
    try:
        found = [float(part) for part in re.split(r"[:,]", text)]
    except ValueError:
        found = []
    if not found or (count and len(found) != count):
        raise UsageError(f"{option} {text!r} is not understood.", next=f"Write {shape}, in requests/s.")
    return found


def _kind(text: str) -> Kind:
    match text:
        case "constant" | "poisson" | "gamma":
            return text
    raise UsageError(f"--arrivals {text} is not known.", next="One of constant, poisson, gamma.")
