"""What a change of the settings means for what runs. Pure: two configurations in, what is to be done out."""

from __future__ import annotations

from dataclasses import fields

from freehold.config import Config
from freehold.core import Record
from freehold.errors import Conflict
from freehold.settings import SECTIONS

FIXED = (
    "server.host", "server.port", "server.mode", "server.name", "store.", "model.more", "engine.memory_budget_mb",
    "engine.idle_unload_s",
)  # fmt: skip
"""The listening socket, the ledger and which models there are belong to the supervisor's whole life."""
COUNT = "engine.workers"


class Plan(Record, frozen=True):
    """What is to be done."""

    changed: tuple[str, ...]
    """Names of settings."""
    gateway: bool = False
    """Another gateway takes over."""
    workers: bool = False
    """Other workers take the old ones' place."""
    count: bool = False
    """There are to be more, or fewer."""


def plan(old: Config, new: Config) -> Plan:
    """Raises `Conflict` for what can't change while it runs; then nothing is changed."""
    changed = tuple(
        f"{section}.{field.name}"
        for section, kind in SECTIONS.items()
        for field in fields(kind)
        if getattr(getattr(old, section), field.name) != getattr(getattr(new, section), field.name)
    )
    fixed = [name for name in changed if name.startswith(FIXED)]
    if fixed:
        raise Conflict(
            f"{', '.join(fixed)} can't change while the server runs.",
            "Nothing was changed.",
            "Stop it and start again.",
        )
    return Plan(
        changed=changed,
        gateway=any(not name.startswith(("engine.", "model.")) for name in changed),
        workers=any(name.startswith(("engine.", "model.")) and name != COUNT for name in changed),
        count=COUNT in changed,
    )
