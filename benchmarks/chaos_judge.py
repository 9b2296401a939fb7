"""What came of a run of `chaos.py`: journals against undisturbed answers, and both against the ledger."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from chaos_clients import Outcome
from freehold.ledger.open import open_ledger
from freehold.loadtest.interrupted import Journal


class Findings(msgspec.Struct):
    lost: list[str] = []
    wrong_tokens: list[str] = []
    wrong_states: list[str] = []
    poisoned: int = 0
    counts: Counter[str] = msgspec.field(default_factory=Counter)


def judge(outcomes: list[Outcome], calm: dict[str, Journal], ledger: dict[str, Any]) -> Findings:
    found = Findings()
    for number, outcome in enumerate(outcomes):
        case, journal = outcome.case, outcome.journal
        where = f"{number} {case.name} {journal.id} ({journal.connections} connections)"
        found.counts[case.deed] += 1
        found.counts["cuts"] += outcome.cuts
        found.counts["refusals"] += journal.refusals
        found.counts["resumed"] += case.deed == "stream" and journal.connections > 1
        entry = ledger.get(journal.id)
        if is_poison(entry) and journal.failure:
            found.poisoned += 1
        elif case.deed == "vanish":
            whole = calm["chat 9"].text
            if not whole.startswith(journal.text):
                found.wrong_tokens.append(f"{where}: {journal.text!r}")
        elif case.deed == "cancel" and outcome.state == "cancelled":
            found.counts["cancelled"] += 1
        elif not journal.whole:
            found.lost.append(f"{where}: {journal.failure or 'never ended'}")
        elif differences := journal.differs(calm["background 9" if case.deed == "cancel" else case.name]):
            found.wrong_tokens.append(f"{where}: {'; '.join(differences)}")
        if case.name.startswith("json") and journal.whole and not isinstance(json.loads(journal.text), dict):
            found.wrong_states.append(f"{where}: no JSON object")
        if entry is not None and journal.whole and (entry.result is None or entry.result.failure is not None):
            found.wrong_states.append(f"{where}: told whole, but the ledger has {entry.state} {entry.result}")
        ended = entry.result if entry is not None and journal.whole else None
        if ended is not None and ended.cancelled != (outcome.state == "cancelled"):
            found.wrong_states.append(f"{where}: told {outcome.state or 'whole'}, the ledger has {ended}")
    return found


def is_poison(entry: Any) -> bool:
    """It ended with the error that says so, and three of its workers had died."""
    failure = entry.result.failure if entry is not None and entry.result is not None else None
    return failure is not None and failure.code == "poisoned" and entry.deaths >= 3


def examine(store: str) -> tuple[dict[str, Any], list[str]]:
    """All entries of the ledger, and what is wrong with it."""
    ledger = open_ledger(store)
    entries: dict[str, Any] = {}
    after: str | None = None
    while page := ledger.list_jobs(limit=500, after=after):
        entries |= {entry.request.id: entry for entry in page}
        after = page[-1].request.id
    wrong = ledger.check_integrity()
    wrong += [f"{id} is {entry.state} at the end" for id, entry in entries.items() if entry.state != "done"]
    wrong += [
        f"{id} ended with {entry.result.failure.code}"
        for id, entry in entries.items()
        if entry.result is not None and entry.result.failure is not None and not is_poison(entry)
    ]
    ledger.close()
    return entries, wrong


def tokens_per_s(outcomes: list[Outcome], calm: dict[str, Journal]) -> float:
    """Tokens of whole answers over the time from first request to last end."""
    whole = [outcome for outcome in outcomes if outcome.journal.whole and outcome.case.name in calm]
    tokens = sum(max(outcome.journal.places, default=0) for outcome in whole)
    return tokens / (max(each.end_s for each in whole) - min(each.begun_s for each in whole))


def waits_s(outcomes: list[Outcome]) -> tuple[float, float]:
    """From sending to the end of a whole stream: median and 99th percentile."""
    took = sorted(each.end_s - each.begun_s for each in outcomes if each.journal.whole and each.case.deed == "stream")
    return took[len(took) // 2], took[int(0.99 * (len(took) - 1))]
