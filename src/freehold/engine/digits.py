"""Integers between two limits as grammar rules, digit by digit: a wide range costs no more than a narrow one.

The rules are a deterministic automaton: what a rule may go on with differs in its first character. Alternatives that
begin alike would mean the same, but xgrammar merges them wrongly and then lets any number through.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_DIGITS = 16
"""Of an integer without a limit."""
_LARGEST = 10**MOST_DIGITS - 1

State = tuple[tuple[str, str], ...]
"""What may still follow: for each count of digits that may be left, the lowest and the highest such digits."""


def _lengths(low: int, high: int) -> State:
    """`low` to `high`, both 0 or more, without leading zeros."""
    counts = range(len(str(low)), len(str(high)) + 1)
    shortest = {count: 10 ** (count - 1) if count > 1 else 0 for count in counts}
    return tuple((str(max(low, shortest[count])), str(min(high, 10**count - 1))) for count in counts)


class Ranges:
    """Writes ranges for one grammar, each state of them once. `rule` takes the body of a rule and gives its name."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        self._rule = rule
        self._names: dict[State, str] = {}
        self._ranges: dict[tuple[int | None, int | None], str] = {}

    def between(self, low: int | None, high: int | None) -> str:
        """The rule of the integers from `low` to `high`, both included; None is no limit. `low` <= `high`."""
        if (low, high) not in self._ranges:
            least = -_LARGEST if low is None else low
            most = _LARGEST if high is None else high
            parts = self._alternatives(_lengths(max(0, least), most)) if most >= 0 else []
            if least < 0:
                parts.append(f'"-" {self._name(_lengths(max(1, -most), -least))}')
            self._ranges[low, high] = self._rule(" | ".join(parts))
        return self._ranges[low, high]

    def _alternatives(self, state: State) -> list[str]:
        """Ways on from `state`, its end aside: digits that lead to the same one together."""
        ways: dict[State, list[int]] = {}
        for digit in range(10):
            if target := _after(state, str(digit)):
                ways.setdefault(target, []).append(digit)
        return [f"{_digits(digits)} {self._name(target)}".rstrip() for target, digits in ways.items()]

    def _name(self, state: State) -> str:
        """The rule of a state; empty for the one that only ends."""
        if state == (("", ""),):
            return ""
        if state not in self._names:
            end = ['""'] if ("", "") in state else []
            self._names[state] = self._rule(" | ".join([*self._alternatives(state), *end]))
        return self._names[state]


def _after(state: State, digit: str) -> State:
    """What may follow `digit`: a limit counts on only where its own digit was taken."""
    return tuple(
        (low[1:] if digit == low[0] else "0" * len(low[1:]), high[1:] if digit == high[0] else "9" * len(high[1:]))
        for low, high in state
        if low and low[0] <= digit <= high[0]
    )


def _digits(digits: list[int]) -> str:
    """A class of them; they lie side by side but for those that a limit cuts out."""
    if len(digits) == 1:
        return f'"{digits[0]}"'
    whole = digits[-1] - digits[0] == len(digits) - 1
    return f"[{digits[0]}-{digits[-1]}]" if whole else "[" + "".join(map(str, digits)) + "]"
