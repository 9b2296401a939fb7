"""How every benchmark ends: claims against targets, the machine, the versions, one JSON line."""

from __future__ import annotations

import json
import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from freehold import machine

OPERATORS = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure with its target. `spread` is the half range of the repetitions, in the figure's unit."""

    name: str
    value: float
    op: str
    target: float
    spread: float = 0.0

    @property
    def holds(self) -> bool:
        return bool(OPERATORS[self.op](self.value, self.target))


def ratio(name: str, over: Sequence[float], under: Sequence[float], op: str, target: float) -> Claim:
    """Median of the ratios of pairs that were measured in the same round."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return Claim(name, statistics.median(ratios), op, target, (max(ratios) - min(ratios)) / 2)


def finish(benchmark: str, claims: Sequence[Claim]) -> int:
    """Print the claims and, as the last line, the JSON object. Exit status 0 if all hold."""
    print()
    for claim in claims:
        mark = "holds" if claim.holds else "FAILS"
        print(f"{mark}  {claim.name}: {claim.value:.3f} {claim.op} {claim.target} (spread {claim.spread:.3f})")
    told = machine.describe()
    print(
        json.dumps(
            {
                "benchmark": benchmark,
                "claims": [
                    {
                        "name": claim.name,
                        "value": round(claim.value, 4),
                        "target": claim.target,
                        "op": claim.op,
                        "holds": claim.holds,
                        "spread": round(claim.spread, 4),
                    }
                    for claim in claims
                ],
                "machine": msgspec.to_builtins(told),
                "versions": machine.versions(),
            }
        )
    )
    return 0 if all(claim.holds for claim in claims) else 1
