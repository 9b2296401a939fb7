"""What a change of the settings means for what runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from freehold.config import Config
from freehold.errors import Conflict
from freehold.worker.reload import Plan, plan

OLD = Config()


def changed(section: str, **values: object) -> Config:
    return replace(OLD, **{section: replace(getattr(OLD, section), **values)})  # type: ignore[arg-type]


def test_nothing_changed_means_nothing_to_do() -> None:
    assert plan(OLD, OLD) == Plan(changed=())


@pytest.mark.parametrize(
    ("new", "todo"),
    [
        (changed("server", max_queue=7), {"gateway"}),
        (changed("log", level="debug"), {"gateway"}),
        (changed("engine", max_batch=7), {"workers"}),
        (changed("model", model="other"), {"workers"}),
        (changed("engine", workers=3), {"count"}),
        (changed("engine", workers=3, threads=1), {"count", "workers"}),
    ],
)
def test_each_setting_changes_who_reads_it(new: Config, todo: set[str]) -> None:
    found = plan(OLD, new)
    assert {name for name in ("gateway", "workers", "count") if getattr(found, name)} == todo
    assert found.changed


@pytest.mark.parametrize("new", [changed("server", port=1), changed("store", path="x")])
def test_what_belongs_to_the_supervisor_s_life_stays(new: Config) -> None:
    with pytest.raises(Conflict, match="can't change"):
        plan(OLD, new)
