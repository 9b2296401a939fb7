"""Alert rules: a small TOML file on top of the built-in ones.

    [rules.slow-search]
    metric = "p99_e2e_ms"
    above = 480
    window = "1m"      # the metric is taken over
    for = "5m"         # it must hold
    severity = "critical"
    clear = 450        # it is over when the value has come down to this
    clear_for = "2m"   # for so long
    labels = { team = "search" }

A rule with the name of a built-in one changes the keys that it gives; `enabled = false` takes it away. A file that
can't be read is refused whole, with the line, the key and what is known.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from freehold.core import Record
from freehold.errors import ConfigError
from freehold.telemetry.alerts import Severity

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


class Rule(Record, frozen=True):
    """When to raise an alert. Exactly one of `above` and `below` is set."""

    name: str
    metric: str
    above: float | None = None
    below: float | None = None
    window_s: float = 60.0
    """The metric is taken over the last so many seconds."""
    for_s: float = 0.0
    """How long it must be crossed without a break."""
    clear: float | None = None
    """It is over at this value; None: at the threshold."""
    clear_for_s: float = 60.0
    severity: Severity = "warning"
    labels: dict[str, str] = {}
    """Put on its alerts."""
    only: dict[str, str] = {}
    """Readings with these labels alone, as in `variant = "..."`."""
    short_s: float = 0.0
    """`burn_rate`: it must be crossed over this shorter window as well, so that it is over soon after the fault."""
    allowed: float = 0.01
    """`burn_rate`: the share of requests that may miss the SLO."""
    baseline_s: float = 604_800.0
    """`cost_ratio`: how far back the baseline is taken from."""
    what: str = ""
    advice: str = ""

    def crossed(self, value: float) -> bool:
        return value > self.above if self.above is not None else value < (self.below or 0.0)

    def cleared(self, value: float) -> bool:
        """By the hysteresis: not before it has come back to `clear`."""
        if self.clear is None:
            return not self.crossed(value)
        return value <= self.clear if self.above is not None else value >= self.clear

    @property
    def threshold(self) -> float:
        return self.above if self.above is not None else (self.below or 0.0)


def seconds(value: object) -> float:
    """`90`, `"90s"`, `"5m"`, `"1h30m"`. Raises `ValueError`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str) and value.strip() and not _DURATION.sub("", value).strip():
        return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(value))
    raise ValueError('expected a time like "90s", "5m" or "1h"')


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"):
        return float(value)
    raise ValueError("expected a number")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("expected text")


def _labels(value: object) -> dict[str, str]:
    if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
        return value
    raise ValueError('expected texts, as in { team = "search" }')


def _severity(value: object) -> str:
    if value in get_args(Severity):
        return str(value)
    raise ValueError(f"expected one of {', '.join(get_args(Severity))}")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("expected true or false")


_KEYS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "metric": ("metric", _text),
    "above": ("above", _number),
    "below": ("below", _number),
    "window": ("window_s", seconds),
    "for": ("for_s", seconds),
    "clear": ("clear", _number),
    "clear_for": ("clear_for_s", seconds),
    "severity": ("severity", _severity),
    "labels": ("labels", _labels),
    "only": ("only", _labels),
    "short": ("short_s", seconds),
    "allowed": ("allowed", _number),
    "baseline": ("baseline_s", seconds),
    "what": ("what", _text),
    "advice": ("advice", _text),
    "enabled": ("enabled", _flag),
}


def read(path: Path, built_in: Iterable[Rule], known: Callable[[str], str | None]) -> tuple[Rule, ...]:
    """The rules in force with the file at `path`. Raises `ConfigError`; see `parse`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = f"{error.strerror}." if isinstance(error, OSError) else "It is not UTF-8."
        raise ConfigError(f"Can't read the alert rules in {path}.", why, "Correct alerts.rules.") from error
    return parse(text, built_in, known, str(path))


def parse(
    text: str, built_in: Iterable[Rule], known: Callable[[str], str | None], where: str = "the alert rules"
) -> tuple[Rule, ...]:
    """The built-in rules with those in `text` put over them. `known` says what is wrong with a metric's name, or None.
    Raises `ConfigError` that names line and key."""
    reader = _Reader(text, where)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"Can't read {where}.", f"{error}.", "Correct the file; it is TOML.") from error
    for name in table:
        if name != "rules":
            raise reader.wrong("", name, f"{name!r} is not known here.", "Write rules as [rules.NAME].")
    found = {rule.name: rule for rule in built_in}
    given = table.get("rules", {})
    if not isinstance(given, dict):
        raise reader.wrong("", "rules", "`rules` is no table.", "Write rules as [rules.NAME].")
    for name, keys in given.items():
        if not isinstance(keys, dict):
            raise reader.wrong("", name, f"{name!r} is no rule.", "Write rules as [rules.NAME].")
        rule = reader.rule(name, keys, found.get(name), known)
        if rule is None:
            found.pop(name, None)
        else:
            found[name] = rule
    return tuple(found.values())


class _Reader:
    """Knows the text, to say where something stands."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where

    def wrong(self, rule: str, key: str, why: str, next: str = "") -> ConfigError:
        line = self._line(rule, key)
        place = f"{self.where}, line {line}" if line else self.where
        return ConfigError(f"Wrong alert rule in {place}" + (f", {rule}.{key}." if rule else "."), why, next)

    def rule(
        self, name: str, keys: Mapping[str, Any], before: Rule | None, known: Callable[[str], str | None]
    ) -> Rule | None:
        """The rule; None if it is switched off."""
        changed: dict[str, Any] = {}
        for key, value in keys.items():
            if key not in _KEYS:
                close = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.4)
                hint = f"Did you mean {close[0]!r}? " if close else ""
                raise self.wrong(name, key, "There is no such key.", f"{hint}Known: {', '.join(_KEYS)}.")
            field, cast = _KEYS[key]
            try:
                changed[field] = cast(value)
            except ValueError as error:
                raise self.wrong(name, key, f"{value!r}: {error}.") from None
        if not changed.pop("enabled", True):
            return None
        if "metric" in changed and (why := known(changed["metric"])) is not None:
            raise self.wrong(name, "metric", f"There is no metric {changed['metric']!r}.", why)
        for one, other in (("above", "below"), ("below", "above")):
            if one in changed:
                changed.setdefault(other, None)
        rule = msgspec.structs.replace(before or Rule(name=name, metric=""), **changed)
        self._check(rule)
        return rule

    def _check(self, rule: Rule) -> None:
        """What must hold of the whole rule."""
        if not rule.metric:
            raise self.wrong(rule.name, "metric", "It names no metric.", "Give metric and above (or below).")
        if (rule.above is None) == (rule.below is None):
            raise self.wrong(rule.name, "above", "It needs a threshold.", "Give one of above and below.")
        if rule.clear is not None and rule.crossed(rule.clear):
            why = f"{rule.clear:g} is beyond the threshold {rule.threshold:g}, so it would never be over."
            raise self.wrong(rule.name, "clear", why)
        if not 0 < rule.allowed < 1:
            raise self.wrong(rule.name, "allowed", "It is a share between 0 and 1.")
        if rule.window_s <= 0:
            raise self.wrong(rule.name, "window", "A window must be longer than 0.")

    def _line(self, rule: str, key: str) -> int | None:
        """Where `key` of the rule stands, else the rule itself; counted from 1."""
        quoted = f"[\"']?{re.escape(rule)}[\"']?"
        head = re.compile(rf"\s*\[\s*rules\s*\.\s*{quoted}\s*\]|\s*(rules\.)?{quoted}\s*=") if rule else None
        start = None
        for number, line in enumerate(self.text.splitlines(), 1):
            if head is not None and start is None:
                start = number if head.match(line) else None
                continue
            if re.match(rf"\s*(\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*(=|\]|\.|$)", line):
                return number
            if head is not None and re.match(r"\s*\[", line):
                break
        return start
