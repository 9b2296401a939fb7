"""Fair shares in the SQLite file: `order.py` decides, this reads and writes what it needs, once a transaction.

However many requests a group holds, each lane and each tenant in it costs one read and one write.
"""

from __future__ import annotations

from collections.abc import Sequence

from freehold import order
from freehold.core import Request
from freehold.ledger.tables import Tables

Lane = tuple[str, int]
"""A model and a priority class."""
Share = tuple[str, int, str]
"""A lane and a tenant in it."""


class Shares:
    """Lives for one write transaction; `save` before it is committed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._virtual: dict[Lane, int] = {}
        self._finish: dict[Share, int] = {}
        self._changed: set[Share] = set()

    def tag(self, request: Request, cost_tokens: int) -> int:
        """The tag of a new request; its tenant's next one comes after it."""
        share = (request.model, request.priority, request.tenant)
        tag = order.tag_tokens(self._virtual_tokens(share[:2]), self._finish_tokens(share))
        self._set(share, tag + cost_tokens)
        return tag

    def settle(self, share: Share, cost_tokens: int, took_tokens: int) -> None:
        """A request has ended: what it took takes the place of what was expected."""
        self._set(share, order.settled(self._finish_tokens(share), cost_tokens, took_tokens))

    def advance(self, lane: Lane, served: Sequence[tuple[int, bool]]) -> None:
        """`served` was claimed: (tag, had a deadline) of each."""
        before = self._virtual_tokens(lane)
        waiting = None
        if any(had_deadline for _, had_deadline in served):
            waiting = next((tag for (tag,) in self._tables.run("next_tag", model=lane[0], priority=lane[1])), None)
        after = order.advanced(before, served, waiting)
        if after != before:
            self._tables.run("set_lane", model=lane[0], priority=lane[1], virtual=after)

    def save(self) -> None:
        for model, priority, tenant in self._changed:
            finish = self._finish[model, priority, tenant]
            self._tables.run("set_share", model=model, priority=priority, tenant=tenant, finish=finish)

    def _set(self, share: Share, finish_tokens: int) -> None:
        if self._finish.get(share) != finish_tokens:
            self._finish[share] = finish_tokens
            self._changed.add(share)

    def _virtual_tokens(self, lane: Lane) -> int:
        if lane not in self._virtual:
            rows = self._tables.run("lane", model=lane[0], priority=lane[1])
            self._virtual[lane] = rows[0][0] if rows else 0
        return self._virtual[lane]

    def _finish_tokens(self, share: Share) -> int:
        if share not in self._finish:
            model, priority, tenant = share
            rows = self._tables.run("share", model=model, priority=priority, tenant=tenant)
            self._finish[share] = rows[0][0] if rows else 0
        return self._finish[share]
