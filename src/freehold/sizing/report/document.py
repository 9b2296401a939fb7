"""What a report says, before it is drawn: a verdict in a sentence, then sections. HTML, Markdown and JSON agree.

Every figure in it has a tag (measured, derived, assumed) and the command or source that gave it.
"""

from __future__ import annotations

from freehold.core import Json, Record
from freehold.sizing.figure import Figure, amount, usd
from freehold.sizing.report import bills, fleet, measured
from freehold.sizing.report.compare import Change, compare, offered_differ
from freehold.sizing.report.run import FILES, SAMPLES, Run
from freehold.sizing.report.sections import Section, Table


class Document(Record, frozen=True):
    title: str
    verdict: str
    sections: tuple[Section, ...]
    missing: tuple[str, ...]
    """What would be here, and the command that makes it."""
    changes: tuple[Change, ...] = ()


def document(run: Run) -> Document:
    """The report of one folder."""
    made = (
        fleet.size(run),
        bills.money(run),
        measured.knee(run),
        measured.sweep(run),
        fleet.traffic(run),
        bills.staircase(run),
        measured.timeline(run),
        fleet.scale(run),
        bills.inputs(run),
        measured.machine(run),
    )
    return Document(
        title=f"Freehold report: {run.name}",
        verdict=_verdict(run),
        sections=tuple(section for section in made if section),
        missing=tuple(f"{name}: {FILES.get(name, FILES['manifest.json'])}" for name in run.missing),
    )


def comparison(before: Run, after: Run) -> Document:
    """The report of two folders: what changed from the first to the second."""
    changes = tuple(compare(before, after))
    rows = tuple(_row(change) for change in changes)
    head = ("figure", before.name, after.name, "change", "ratio, 90 %", "beyond noise?", "how")
    differ = offered_differ(before, after)
    section = Section(title="What changed", text=(differ,) if differ else (), table=Table(head=head, rows=rows))
    missing = [
        f"{name} in {run.name}" for run in (before, after) for name in run.missing if name in (SAMPLES, "knee.json")
    ]
    return Document(
        title=f"Freehold report: {before.name} against {after.name}",
        verdict=_changed(changes, differ),
        sections=(section,),
        missing=tuple(missing),
        changes=changes,
    )


def _row(change: Change) -> tuple[str, ...]:
    values = (_value(change.before, change.unit), _value(change.after, change.unit))
    moved = f"{change.after / change.before - 1:+.1%}" if change.before else "-"
    ratio = f"{change.low:.3g} to {change.high:.3g}"
    return (change.name, *values, moved, ratio, change.outcome, change.how)


def _changed(changes: tuple[Change, ...], differ: str) -> str:
    if not changes:
        return "The two runs have no figure in common, so there is nothing to compare."
    parts = []
    for outcome in ("better", "worse"):
        names = _foremost([change for change in changes if change.outcome == outcome])
        if names:
            parts.append(f"{outcome}: {', '.join(names)}")
    told = f"Beyond noise, {'; '.join(parts)}." if parts else "Nothing changed beyond noise."
    return f"{told} {differ}".strip()


def _foremost(changes: list[Change]) -> list[str]:
    """Of the percentiles of one metric the highest alone, each with how far it moved."""
    last = {change.name.split(" ", 1)[-1] if change.name.startswith("p") else change.name: change for change in changes}
    return [f"{change.name} ({change.after / change.before - 1:+.0%})" for change in last.values()]


def _verdict(run: Run) -> str:
    """The strongest sentence the folder allows."""
    told = run.files.get("verdict.json")
    if told and told.get("sentence"):
        return str(told["sentence"])
    capacity = _capacity(run.files.get("knee.json"))
    if capacity:
        return f"{capacity} What that costs isn't known yet: run `freehold verdict {run.name} --api MODEL`."
    if run.requests:
        answered = int(run.requests.ok.sum())
        share = answered / len(run.requests.ok)
        return f"{answered:,} of {len(run.requests.ok):,} requests were answered ({share:.1%}); no SLO has been judged."
    scaled = run.files.get("scale.json")
    if scaled:
        return str(scaled["sentence"])
    bill = run.files.get("cost.json")
    if bill:
        return f"An answer costs {usd(float(bill['own']['usd_per_answer']))} on own instances."
    return "There is nothing in this folder to judge yet."


def _capacity(told: Json | None) -> str:
    found = (told or {}).get("capacity")
    if not isinstance(found, dict):
        return ""
    band = f"{amount(found['low'])} to {amount(found['high'])}"
    slo = f" within {found['slo']}" if found.get("slo") else ""
    return f"One instance carries {amount(found['rate_per_s'])} requests a second (90 %: {band}){slo}."


def _value(value: float, unit: str) -> str:
    if unit.startswith("USD"):
        return usd(value)
    return f"{value:.1%}" if unit == "share" else f"{amount(value)} {unit}"


def figures_of(document: Document) -> list[Figure]:
    return [figure for section in document.sections for figure in section.figures]
