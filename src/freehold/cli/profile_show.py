"""What `freehold profile` and `freehold sweep` hold and show: a line for each batch size, then what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold.cli.output import gib
from freehold.core import LoadPhase, Record
from freehold.engine.measure import Level
from freehold.sizing.steplaw import Fit
from freehold.sizing.sweetspot import SweetSpot

if TYPE_CHECKING:
    from rich.console import Console

    from freehold.core import ModelCard


class Taken(Record, frozen=True):
    """Everything one measurement gave; what is printed, and what `--json` and sweep.json hold."""

    model: str
    engine: str
    machine: str
    quantization: str
    phases: tuple[LoadPhase, ...]
    levels: tuple[Level, ...]
    sweet: SweetSpot
    bandwidth_bytes_per_s: float
    """Of plain copies: the ceiling of writing tokens."""
    peak_ops_per_s: float
    """Of matrices, the way the engine multiplies them, or while it reads a long prompt; 0 where that isn't known."""
    fit: Fit
    bytes_per_step: tuple[float, ...]
    """Weights and contexts that a step of each level reads."""
    ops_per_step: tuple[float, ...]
    command: str


def bytes_of(card: ModelCard, streams: int, context_tokens: float) -> float:
    return card.weight_bytes + card.kv_bytes_per_token * streams * context_tokens


def console_of(*, as_json: bool) -> Console:
    import sys

    from rich.console import Console

    return Console(file=sys.stderr if as_json else sys.stdout, highlight=False, soft_wrap=True)


def head(console: Console, card: ModelCard, phases: list[LoadPhase], ceilings: tuple[float, float]) -> None:
    loaded = ", ".join(f"{phase.name} {phase.seconds:.2f} s" for phase in phases)
    console.print(f"loaded   {loaded or 'at once'}; {gib(card.memory_bytes)} in memory", markup=False)
    if ceilings[0]:
        top = f"ceiling  memory {ceilings[0] / 1e9:.1f} GB/s"
        how = "matrices" if card.engine == "openvino" else "matrices, while a long prompt is read,"
        top += f", {how} {ceilings[1] / 1e9:.0f} GOPS" if ceilings[1] else ""
        console.print(top, markup=False)
    columns = ("batch", "tokens/s", "+-", "each", "step p50", "p99", "all first", "memory", "MBU", "compute")
    console.print("".join(f"{name:>10}" for name in columns), style="bold")


class Live:
    """A line for each level as it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def heard(self, level: Level, card: ModelCard, ceilings: tuple[float, float]) -> None:
        step_s = level.step_ms_p50 / 1000.0
        moved = bytes_of(card, level.streams, level.context_tokens)
        mbu = f"{moved / step_s / ceilings[0]:.0%}" if ceilings[0] and step_s else "-"
        ops = f"{2 * card.parameters * level.streams / step_s / ceilings[1]:.0%}" if ceilings[1] and step_s else "-"
        spread = f"{level.spread:.0%}" + ("" if level.trusted else "?")
        cells = (
            f"{level.streams}", f"{level.tokens_per_s:,.0f}", spread, f"{level.tokens_per_s / level.streams:,.1f}",
            f"{level.step_ms_p50:.2f} ms", f"{level.step_ms_p99:.2f} ms", f"{level.first_token_ms:.0f} ms",
            gib(level.memory_bytes), mbu, ops,
        )  # fmt: skip
        self._console.print("".join(f"{cell:>10}" for cell in cells), markup=False)


def conclude(console: Console, taken: Taken) -> None:
    law, fit = taken.fit.law, taken.fit
    if law.batch_points:
        terms = "by batch: " + ", ".join(f"{n}: {ms:.2f}" for n, ms in law.batch_points)
    else:
        terms = f"{law.base_ms:.3f} + {law.sequence_ms:.4f} a sequence + {law.context_ms_per_token:.6f} a context token"
    console.print(
        f"\nstep ms  {terms} + {law.prefill_ms_per_token:.4f} a prompt token; median error {fit.error:.1%} over "
        f"{fit.seen} observations",
        markup=False,
    )
    sweet = taken.sweet
    console.print(
        f"pays     up to {sweet.streams} streams: {sweet.tokens_per_s:,.0f} tokens/s, {sweet.share:.0%} of the best. "
        f"{sweet.reason}",
        markup=False,
    )
    if any(not level.trusted for level in taken.levels):
        console.print("?        the rounds of that batch size don't agree: the machine was busy, or the time too short")
    over = taken.bandwidth_bytes_per_s and any(
        moved / (x.step_ms_p50 / 1000) > taken.bandwidth_bytes_per_s
        for x, moved in zip(taken.levels, taken.bytes_per_step, strict=True)
    )
    if over:
        console.print("MBU      over 100 %: the weights lie in the processor's cache, memory is not the limit")
