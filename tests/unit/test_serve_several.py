"""How several models are named on a command line, and what is told of those that are loaded when asked for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest

from freehold.cli.several import named
from freehold.cli.units import mebibytes, seconds
from freehold.config import Config
from freehold.core import ModelCard
from freehold.engine.base import EngineSpec
from freehold.errors import DeadlinePassed, ModelError, ModelNotFound, Unavailable, UsageError
from freehold.gateway.call import Call
from freehold.gateway.cards import card_of
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Fleet
from freehold.model.source import Source
from freehold.model_status import ModelStatus
from freehold.worker.expected import PROCESS_BYTES, expected_bytes, expected_load_s

CARD = ModelCard(name="a", engine="sim", source="x", context_tokens=8, max_batch=1)
BROKEN = ModelError("It is cut off.", "The end is missing.").failure()


@pytest.mark.parametrize(
    ("text", "name", "model"),
    [
        ("starter", "", "starter"),
        ("a=starter", "a", "starter"),
        ("org/a=sim:x=1", "org/a", "sim:x=1"),
        ("http://host/v1?key=1", "", "http://host/v1?key=1"),
        ("b=http://host/v1#c=d", "b", "http://host/v1#c=d"),
    ],
)
def test_a_model_may_bring_its_name(text: str, name: str, model: str) -> None:
    found = named(Config(), text).model
    assert (found.name, found.model, found.more) == (name, model, ())


def test_an_existing_file_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.gguf").touch()
    assert named(Config(), "a=b.gguf").model.model == "a=b.gguf"


def test_quantities_as_people_type_them() -> None:
    assert [mebibytes("--x", text) for text in ("8GiB", "8g", "8192 MiB", "1.5G")] == [8192, 8192, 8192, 1536]
    assert mebibytes("--x", "8GB") == 7629
    assert [seconds("--x", text) for text in ("90", "90s", "1.5m", "2h")] == [90.0, 90.0, 90.0, 7200.0]
    for bad in ("8", "much", "8 GiBs", "-1GiB", "10B"):
        with pytest.raises(UsageError, match="8GiB"):
            mebibytes("--x", bad)
    with pytest.raises(UsageError, match="10m"):
        seconds("--x", "1 week")


def test_a_size_is_guessed_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(1 << 20))
    (tmp_path / "notes.txt").write_bytes(bytes(1 << 20))
    source = Source(kind="safetensors", path=str(tmp_path), label="x", name="x")
    spec = EngineSpec(engine="llamacpp", source=source, name="x", cache_dir="", kv_cache_bytes=7)
    assert expected_bytes(spec) == PROCESS_BYTES["llamacpp"] + 7 + (1 << 20) * 17 // 32
    assert 1.0 < expected_load_s(spec) < 1.01


class Front:
    """What `card_of` needs of a desk."""

    def __init__(self, *models: ModelStatus) -> None:
        self.fleet = Fleet()
        self.asked: list[str] = []
        self.intake = self.supervisor = self
        self.fleet.offers.told(models)

    def check_served(self) -> None: ...

    def check_open(self) -> None: ...

    def want(self, model: str) -> None:
        self.asked.append(model)

    async def card(self, model: str | None, deadline_unix_s: float | None = None) -> ModelCard:
        call = Call("r")
        call.deadline_unix_s = deadline_unix_s
        return await card_of(cast(Desk, self), model, call)


def offer(name: str, **more: object) -> ModelStatus:
    facts = {"state": "unloaded", "engine": "sim", "source": "x"} | more
    return ModelStatus(name=name, **facts)  # type: ignore[arg-type]


def test_a_model_that_was_loaded_before_is_known_and_the_first_is_the_default() -> None:
    front = Front(offer("b", card=CARD), offer("a", card=CARD))
    front.fleet.supervised([])
    assert list(front.fleet.models()) == ["b", "a"]
    assert asyncio.run(front.card(None)) is CARD
    assert front.fleet.ready()
    assert not front.fleet.hopeless(0.0)
    with pytest.raises(ModelNotFound, match="a, b"):
        asyncio.run(front.card("c"))


def test_one_of_which_nothing_is_known_is_asked_for_until_it_is_loaded_or_too_late() -> None:
    async def ask() -> None:
        front = Front(offer("a"))
        waiting = asyncio.create_task(front.card("a"))
        await asyncio.sleep(0)
        assert front.asked == ["a"]
        front.fleet.offers.told([offer("a", card=CARD)])
        front.fleet.supervised([])
        assert await waiting is CARD
        with pytest.raises(DeadlinePassed):
            await Front(offer("a")).card("a", time.time() - 1.0)

    asyncio.run(ask())


def test_one_that_can_not_be_loaded_is_refused_with_the_time_of_the_next_try() -> None:
    front = Front(offer("a", state="failed", failure=BROKEN, retry_in_s=20.0), offer("b", card=CARD))
    with pytest.raises(Unavailable, match="can't be loaded") as refused:
        asyncio.run(front.card("a"))
    assert "cut off" in str(refused.value)
    assert refused.value.retry_after_s == pytest.approx(20.0, abs=5.0)
    assert not front.fleet.hopeless(0.0)
    assert Front(offer("a", state="failed", failure=BROKEN)).fleet.hopeless(-1.0)
