"""What this gateway remembers of what it saw: rows of requests become slots of ten seconds, windows and history.

The end of each slot calls `on_slot`; what can't wait for it calls `on_event`. Everything here runs in the event loop,
once a request or once a second; only the gap between two tokens is added to a sketch as it happens.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from freehold import log, slo
from freehold.clock import Clock, SystemClock
from freehold.core import ModelCard
from freehold.gateway.call import Call
from freehold.gateway.changes import Changes
from freehold.gateway.fleet import Fleet
from freehold.gateway.inbox import Inbox
from freehold.gateway.rows import TOKEN_ROUTES, accepted_row, is_good, refused_row
from freehold.pipe import Status
from freehold.settings import ObserveConfig
from freehold.telemetry.cost import ApiCost, Drift, slot_usd
from freehold.telemetry.genai import GenAi
from freehold.telemetry.history import History
from freehold.telemetry.power import Meters
from freehold.telemetry.row import Row, variant_of
from freehold.telemetry.series import Series
from freehold.telemetry.slot import SLOT_S, Event, Slot
from freehold.telemetry.timeline import Live, Timeline
from freehold.telemetry.traces import Traces
from freehold.telemetry.windows import Whole, Windows

T = TypeVar("T")
KEPT_SLOTS = int(3600 / SLOT_S)
LOOK_S = 1.0


class Observe:
    """`slots` are those of the last hour, oldest first; all before the open one."""

    def __init__(
        self, config: ObserveConfig, fleet: Fleet, history: History | None = None, clock: Clock | None = None
    ) -> None:
        """Raises `UsageError` where `observe.slo` can't be read."""
        self.config = config
        self.on = config.recording == "on"
        self.fleet = fleet
        self.history = history
        self.clock: Clock = clock or SystemClock()
        self.objectives = slo.parse(config.slo) if config.slo else ()
        gap_limits = [each.limit_ms for each in self.objectives if each.metric == "itl"]
        self.timeline = Timeline(self.clock, gap_limit_ms=min(gap_limits, default=float("inf")))
        self.windows = Windows()
        self.series = Series()
        self.genai = GenAi()
        self.changes = Changes(fleet)
        self.api: ApiCost | None = None
        """Prices of the API that `observe.against` names, once they are read."""
        self.since_unix_s = self.clock.unix_s()
        self.cost_usd: float | None = None
        """Since then; so `api_usd`."""
        self.api_usd: float | None = None
        self.slots: deque[Slot] = deque(maxlen=KEPT_SLOTS)
        self.on_slot: list[Callable[[Slot], None]] = []
        """Called with each slot that has ended."""
        self.on_event: list[Callable[[Event], None]] = []
        """Called at once."""
        self.on_row: list[Callable[[Row], None]] = []
        self.stand: Callable[[], Slot] = lambda: Slot(begin_unix_s=0.0)
        """How things stand, for the slot that closes."""
        self.meters: Meters | None = None
        """Of power and GPUs, once they are found."""
        self.traces: Traces | None = None
        self.bandwidth_bytes_per_s: float | None = None
        """Of this machine's memory as it was measured; a worker's profile knows better."""
        self.deepest = 0
        """The longest the queue was in the open slot."""
        self.drift = Drift()
        self.retiring = False
        """Another gateway has taken over: it hears of the workers' steps too, and counts them."""
        self._history_fails = False
        self._stopped = False

    # ---- told by those who see requests --------------------------------------------------------------

    def live_of(self, worker: str) -> Live | None:
        """Where the gaps between a worker's tokens are counted."""
        card = self.fleet.card_of(worker) if self.on else None
        return None if card is None else self.timeline.live(variant_of(card))

    def left(self, call: Call) -> None:
        """A call has ended, and what it waited for with it, unless that goes on without it."""
        if not self.on:
            return
        inbox = call.inbox
        if inbox is None:
            if call.route in TOKEN_ROUTES and call.status >= 400:
                self._note(refused_row(call, self._variant((), call.model)))
        elif inbox.call is call and not inbox.noted:
            if not inbox.ended and (inbox.lasting or inbox.resumable_s):
                inbox.call = None
            else:
                self._row(inbox, call)

    def ended(self, inbox: Inbox, *, given_up: bool = False) -> None:
        """A request of it has ended. Once all have, or it was given up, it has its row, unless somebody waits for it
        who still has to be told."""
        if self.on and inbox.call is None and not inbox.noted and (given_up or inbox.ended):
            self._row(inbox, None)

    def told(self, worker: str, frame: Status) -> None:
        """A worker says how it is, and what its steps were."""
        self.look()
        card = self.fleet.card_of(worker)
        if self.on and card is not None and frame.steps is not None and not self.retiring:
            known = card.bandwidth_bytes_per_s or self.bandwidth_bytes_per_s
            self.timeline.bandwidth_bytes_per_s = known or None
            self.timeline.stepped(variant_of(card), worker, frame.steps)
            self.changes.stepped(worker, frame.steps.step_ms)

    def look(self) -> None:
        """What has become of the workers since the last time."""
        for event in self.changes.look(self.clock.unix_s()):
            self.happened(event)
        trouble = self.history.trouble if self.history is not None else ""
        if trouble and not self._history_fails:
            self.happened(Event(kind="history_failed", at_unix_s=self.clock.unix_s(), why=trouble))
        self._history_fails = bool(trouble)

    def happened(self, event: Event) -> None:
        self._tell(self.on_event, event)

    # ---- asked by routes -------------------------------------------------------------------------------

    def over(self, window_s: float) -> Whole:
        """The last `window_s` seconds, with the open slot."""
        return self.windows.over(window_s, self.clock.monotonic_s(), self.timeline.open())

    def ever(self) -> Whole:
        """Since this gateway began."""
        whole = self.timeline.open()
        for variant, sums in self.timeline.ever.items():
            if not sums.empty:
                whole.part(variant).merge(sums)
        return whole

    def remembers(self, slots: Sequence[Slot], windows: Windows) -> None:
        """What a gateway before this one saw; oldest first."""
        self.windows.follow(windows)
        mine = list(self.slots)
        first = mine[0].begin_unix_s if mine else float("inf")
        self.slots.clear()
        self.slots.extend([*(slot for slot in slots if slot.begin_unix_s < first), *mine])

    # ---- turning -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: look after the workers, and close each slot in its time."""
        while self.on and not self._stopped:
            await asyncio.sleep(max(0.01, min(LOOK_S, self.timeline.due_in_s)))
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001  what only looks on must not cost serving anything
                log.event("observe.failed", level="error", error=error)

    def turn(self) -> None:
        self.look()
        self.timeline.gather()
        if self.timeline.due_in_s <= 0:
            self._close()

    async def stop(self) -> None:
        """The process ends: what the open slot holds is kept too. A slow disk is waited for beside the loop, whose beat
        must go on."""
        self._stopped = True
        if self.on and self.timeline.open().parts:
            self._close()
        closings = [each.close for each in (self.history, self.traces) if each is not None]
        await asyncio.gather(*(asyncio.to_thread(close) for close in closings))

    def _close(self) -> None:
        begin_s = self.timeline.begin_s
        slot = self.timeline.close(self.stand(), self.batch_limits())
        cost_usd = slot_usd(self.config.price_per_hour_usd, slot.seconds)
        api_usd = None if self.api is None else self.api.usd(slot)
        if self.meters is not None:
            self.meters.look()
            slot = msgspec.structs.replace(slot, power_w=self.meters.power_w)
        slot = self.changes.into(msgspec.structs.replace(slot, cost_usd=cost_usd, api_usd=api_usd))
        self.deepest = 0
        self.drift.add(slot)
        if cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + cost_usd
        if api_usd is not None:
            self.api_usd = (self.api_usd or 0.0) + api_usd
        self.slots.append(slot)
        self.windows.add(slot, begin_s)
        if self.history is not None:
            self.history.add((), slot)
        self._tell(self.on_slot, slot)

    def batch_limits(self) -> dict[str, int]:
        """By variant, of all workers that serve it."""
        limits: dict[str, int] = {}
        for name in self.fleet.lines:
            card = self.fleet.card_of(name)
            if card is not None:
                limits[variant_of(card)] = limits.get(variant_of(card), 0) + card.max_batch
        return limits

    def _row(self, inbox: Inbox, call: Call | None) -> None:
        inbox.noted = True
        variant = self._variant(inbox.worked, inbox.request.model)
        row = accepted_row(inbox, call, variant, time.perf_counter())
        good = is_good(row, inbox, self.objectives)
        if good:
            row = msgspec.structs.replace(row, good=True)
        answers = [chunk for chunk in inbox.ends if chunk.usage is not None]
        if row.outcome == "ok" and row.first_ms is not None:
            live = self.timeline.live(variant)
            for chunk in answers:
                if chunk.usage is not None and (chunk.finish == "stop" or inbox.capped):
                    live.lengthening.add(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        if row.runaway:
            made = row.completion_tokens
            log.event("request.runaway", level="warning", id=row.id, model=row.model, tokens_made=made)
            now_s, why = self.clock.unix_s(), f"An answer was stopped at {made} tokens; nobody had asked for a limit."
            told = Event(kind="runaway", at_unix_s=now_s, why=why, worker=row.worker, model=row.model, request=row.id)
            self.happened(told)
        self._note(row, inbox)

    def _note(self, row: Row, inbox: Inbox | None = None) -> None:
        self.timeline.count(row)
        self.genai.count(row)
        if self.history is not None:
            self.history.add((row,), None, texts_of(inbox) if self.config.keep_text == "on" else b"")
        self._tell(self.on_row, row)

    def _tell(self, listeners: Sequence[Callable[[T], None]], what: T) -> None:
        """A listener that breaks must cost neither the others nor whoever is being served."""
        for listener in listeners:
            try:
                listener(what)
            except Exception as error:  # noqa: BLE001  the edge of what only looks on
                log.event("observe.failed", level="error", error=error)

    def _variant(self, workers: Sequence[str], model: str) -> str:
        """Of the last worker that took it up; else the only one of its model; else just the model."""
        cards: list[ModelCard] = [card for name in workers[-1:] if (card := self.fleet.card_of(name)) is not None]
        if cards:
            return variant_of(cards[0])
        serving = (self.fleet.card_of(name) for name in self.fleet.lines)
        known = {variant_of(card) for card in serving if card is not None and card.name == model}
        return known.pop() if len(known) == 1 else model


def texts_of(inbox: Inbox | None) -> bytes:
    """Prompt and answers, for a history that is to keep them."""
    if inbox is None:
        return b""
    told = [
        {"messages": request.messages, "prompt": request.prompt, "inputs": request.inputs}
        | {"answers": [inbox.text(request.id, choice) for choice in range(len(inbox.have(request.id)))]}
        for request in inbox.requests
    ]
    return msgspec.json.encode(told)
