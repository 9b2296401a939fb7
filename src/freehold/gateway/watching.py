"""Sets up what observes this gateway, and keeps it going: history, meters, prices, and how things stand each slot."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections import Counter
from collections.abc import Coroutine

from freehold import log
from freehold.config import Config
from freehold.errors import FreeholdError, UsageError
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Fleet
from freehold.gateway.observe import KEPT_SLOTS, Observe
from freehold.gateway.rows import rebuilt_row
from freehold.ledger.group import AsyncLedger
from freehold.ledger.open import is_remote
from freehold.machine import kept_bandwidth_bytes_per_s
from freehold.telemetry.cost import ApiCost, api_cost
from freehold.telemetry.history import History, history_path
from freehold.telemetry.history_read import ids_since, last_begin_unix_s, read_slots
from freehold.telemetry.power import Meters
from freehold.telemetry.slot import SLOT_S, Slot
from freehold.telemetry.traces import Traces
from freehold.telemetry.windows import WINDOWS_S, Windows

SETTLED_S = 15.0
"""A gateway that this one follows has written its last rows by then."""
LOST_S = 5.0
"""A request that ended so long before this gateway began, and has no row, will get none from another."""
LOOK_BACK_S = 600.0
PAGE = 100
PAUSE_S = 0.002


def observer(config: Config, fleet: Fleet) -> Observe:
    """What observes, with its history where one is kept. Raises `UsageError` for an SLO that can't be read,
    `ConfigError` for traces without what they need."""
    observe = config.observe
    history = None
    if observe.recording == "on" and observe.history == "on":
        path = history_path(config.home, config.server.port)
        history = History(path, observe.history_days, observe.history_mb << 20)
    made = Observe(observe, fleet, history)
    if made.on and observe.otlp_endpoint:
        made.traces = Traces(observe.otlp_endpoint)
        made.on_row.append(made.traces.add)
    made.bandwidth_bytes_per_s = kept_bandwidth_bytes_per_s(config.home)
    return made


async def keep_watch(desk: Desk, config: Config) -> None:
    """For ever. What can't be read is said once, and does not keep the rest from going on."""
    observe = desk.observe
    if not observe.on:
        return
    observe.stand = lambda: standing(desk)
    besides: list[Coroutine[object, object, None]] = []
    observe.meters = await asyncio.to_thread(Meters)
    if observe.history is not None and observe.history.path.exists():
        began = await asyncio.to_thread(_last_slot, observe.history)
        if began is not None:
            observe.timeline.after(began)
            besides.append(_remember(observe, observe.history))
    if config.observe.against:
        observe.api = await asyncio.to_thread(_api, config.observe.against)
    if observe.history is not None and not is_remote(config.store.url):
        besides.append(_rebuild_later(desk, observe.history))
    await asyncio.gather(observe.run(), *besides)


def standing(desk: Desk) -> Slot:
    """How things stand now, as the gauges of a slot."""
    fleet, observe = desk.fleet, desk.observe
    rows = fleet.workers()
    cards = [fleet.card_of(name) for name in fleet.lines]
    return Slot(
        begin_unix_s=0.0,
        queue_depth=max(observe.deepest, desk.waiting),
        queued_tokens=int(sum(backlog.tokens for backlog in desk.intake.backlogs.values())),
        running=desk.running,
        batch_limit=sum(card.max_batch for card in cards if card is not None),
        workers=dict(Counter(row.state for row in rows)),
        kv_usage={row.name: row.kv_usage for row in rows if row.kv_usage is not None},
        memory_bytes={row.name: row.memory_bytes for row in rows if row.memory_bytes},
        memory_limit_bytes={row.name: row.memory_limit_bytes for row in rows if row.memory_limit_bytes},
    )


async def _remember(observe: Observe, history: History) -> None:
    """The last day as the history has it, so that windows don't begin anew with each gateway."""
    try:
        slots, windows = await asyncio.to_thread(_last_day, observe, history)
    except FreeholdError as error:
        log.event("history.not_read", level="warning", why=str(error))
        return
    observe.remembers(slots, windows)


def _last_day(observe: Observe, history: History) -> tuple[list[Slot], Windows]:
    """In a thread, and with pauses: nobody's tokens shall wait for it."""
    now_unix_s, now_s = observe.since_unix_s, observe.clock.monotonic_s()
    windows, slots = Windows(), []
    for slot in read_slots(history.path, now_unix_s - WINDOWS_S["1d"], now_unix_s):
        windows.add(slot, now_s - (now_unix_s - slot.begin_unix_s))
        if slot.begin_unix_s >= now_unix_s - KEPT_SLOTS * SLOT_S:
            slots.append(slot)
        time.sleep(PAUSE_S)
    return slots, windows


async def _rebuild_later(desk: Desk, history: History) -> None:
    await asyncio.sleep(SETTLED_S)
    try:
        count = await rebuild(desk.ledger, history, desk.observe.since_unix_s)
    except FreeholdError as error:
        log.event("history.not_rebuilt", level="warning", why=str(error))
        return
    if count:
        log.event("history.rebuilt", requests=count)


async def rebuild(ledger: AsyncLedger, history: History, began_unix_s: float) -> int:
    """Requests that ended while no gateway was there have their rows made from what the ledger kept of them; how many.
    `began_unix_s`: when this gateway came."""
    known, from_unix_s = await asyncio.to_thread(_known, history, began_unix_s)
    rows, after = [], None
    while True:
        page = await ledger.list_jobs("done", PAGE, after)
        for entry in page:
            row = rebuilt_row(entry) if entry.request.id not in known else None
            if row is not None and row.received_unix_s + row.delivered_ms / 1000 < began_unix_s - LOST_S:
                rows.append(row)
        if len(page) < PAGE or page[-1].accepted_unix_s < from_unix_s:
            break
        after = page[-1].request.id
    rows = [row for row in rows if row.received_unix_s >= from_unix_s]
    history.add(rows)
    return len(rows)


def _known(history: History, began_unix_s: float) -> tuple[set[str], float]:
    """Ids that have a row, and since when some may lack one."""
    last = _last_slot(history)
    from_unix_s = (last if last is not None and last < began_unix_s else began_unix_s) - LOOK_BACK_S
    return ids_since(history.path, from_unix_s), from_unix_s


def _last_slot(history: History) -> float | None:
    try:
        return last_begin_unix_s(history.path)
    except FreeholdError:  # what writes it says so
        return None


def _api(against: str) -> ApiCost | None:
    try:
        return api_cost(against, datetime.datetime.now(datetime.UTC).date())
    except UsageError as error:
        log.event("observe.against_unknown", level="warning", why=str(error))
        return None
