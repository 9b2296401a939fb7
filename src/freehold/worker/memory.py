"""How much memory a worker may take, and when it is near that: it then finishes, and is replaced, before the kernel
kills it in the middle of an answer. Pure.

Counted is what is the process's own; weights that are mapped from a file can be dropped by the kernel and are shared.
"""

from __future__ import annotations

from typing import Any

SHARE = 0.9
"""Of the machine's memory, for all workers together."""
NEAR = 0.9
"""Of its limit: from here on a worker takes nothing new."""


def limit_bytes(limit_mb: int, machine_bytes: int, workers: int) -> int:
    """What each worker may take: as set, else its share of the machine."""
    return limit_mb << 20 if limit_mb else int(machine_bytes * SHARE) // max(1, workers)


def budget_bytes(budget_mb: int, machine_bytes: int) -> int:
    """What several models may take together."""
    return budget_mb << 20 if budget_mb else int(machine_bytes * SHARE)


def is_near(own_bytes: int, limit_bytes: int) -> bool:
    """`limit_bytes` 0 is no limit."""
    return bool(limit_bytes) and own_bytes >= NEAR * limit_bytes


def own_bytes(info: Any) -> int:
    """Of `psutil.Process().memory_info()`: resident, without what is shared with files or others (Linux tells)."""
    return int(info.rss) - int(getattr(info, "shared", 0))
