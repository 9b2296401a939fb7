"""Splits a large fleet with its trace into cells that are played one by one.

A fleet of thousands is played as cells of a few replicas, each with its share of the requests, dealt out at random as a
load balancer does. Less is pooled than in one queue, so the answer errs on the safe side; the sum of cells is exact for
fleets that are built so.
"""

from __future__ import annotations

import msgspec
import numpy as np

from freehold.sizing.simulate import play
from freehold.sizing.work import Admit, Fleet, Played, Work

CELL_REPLICAS = 16
"""A play's time grows with replicas x requests; beyond so many, cells are faster and hardly worse."""


def play_in_cells(
    work: Work, fleet: Fleet, admit: Admit | None = None, *, cell: int = CELL_REPLICAS, seed: int = 0
) -> Played:
    """`play`, in cells of at most `cell` replicas each. `admit` sees the numbers of the whole trace."""
    cells = -(-fleet.replicas // cell)
    if cells == 1:
        return play(work, fleet, admit)
    sizes = np.full(cells, fleet.replicas // cells)
    sizes[: fleet.replicas % cells] += 1
    lot = np.random.default_rng(seed).choice(cells, len(work.arrival_s), p=sizes / fleet.replicas)
    parts = []
    for i, replicas in enumerate(sizes.tolist()):
        mine = np.flatnonzero(lot == i)
        part = msgspec.structs.replace(fleet, replicas=replicas)
        parts.append((mine, play(taken(work, mine), part, _renumbered(admit, mine))))
    return _together(len(work.arrival_s), parts)


def taken(work: Work, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Work:
    """The requests with these numbers."""
    return Work(
        arrival_s=work.arrival_s[numbers],
        prompt_tokens=work.prompt_tokens[numbers],
        output_tokens=work.output_tokens[numbers],
        due_s=None if work.due_s is None else work.due_s[numbers],
        rank=None if work.rank is None else work.rank[numbers],
    )


def _renumbered(admit: Admit | None, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Admit | None:
    if admit is None:
        return None
    return lambda number, now_s, waiting, running: admit(int(numbers[number]), now_s, waiting, running)


def _together(count: int, parts: list[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Played]]) -> Played:
    claimed, first, end = (np.full(count, np.nan) for _ in range(3))
    outcome = np.zeros(count, np.int8)
    for mine, played in parts:
        claimed[mine], first[mine], end[mine] = played.claimed_s, played.first_s, played.end_s
        outcome[mine] = played.outcome
    return Played(
        claimed_s=claimed,
        first_s=first,
        end_s=end,
        outcome=outcome,
        busy_s=np.concatenate([played.busy_s for _, played in parts]),
        steps=sum(played.steps for _, played in parts),
        put_back=sum(played.put_back for _, played in parts),
    )
