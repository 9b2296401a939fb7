"""Who is there, in a real Redis with a turned clock: names are nobody else's, posts end with who put them up."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from freehold.clock import VirtualClock
from freehold.config import Config, StoreConfig
from freehold.errors import ConfigError
from freehold.ledger.redis_link import TIMEOUT_S, RedisLink
from freehold.ledger.roster import HOLDS_S, Place, Post, Roster, loopback
from freehold.worker.neighbours import MISSED, Neighbours
from freehold.worker.site import prepared_to_work
from redis_server import RedisServer

POST = Post(gateway="g", place="other", host="front", address="tcp://192.0.2.9:7000")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture
def roster(redis_server: RedisServer, clock: VirtualClock) -> Iterator[Roster]:
    link = RedisLink(redis_server.url, secrets.token_hex(4), None, TIMEOUT_S, 0.0)
    roster = Roster(link, clock)
    yield roster
    roster.close()


def place(id: str, name: str = "host") -> Place:
    return Place(id=id, name=name, secret=b"")


def test_every_place_has_a_name_of_its_own_and_keeps_it(roster: Roster, clock: VirtualClock) -> None:
    names = [roster.visit(place(id)).place.name for id in ("a", "b", "c")]
    assert names == ["host", "host-2", "host-3"]
    assert roster.visit(place("b")).place.name == "host-2"
    roster.leave(place("a"))
    assert roster.visit(place("d")).place.name == "host"
    clock.sleep(HOLDS_S + 1)
    assert roster.visit(place("c", "host-3")).place.name == "host-3"
    assert roster.visit(place("e")).place.name == "host"


def test_all_hold_one_secret(roster: Roster) -> None:
    first = roster.visit(place("a")).place.secret
    assert len(first) == 32
    assert roster.visit(place("b")).place.secret == first
    assert roster.visit(Place(id="a", name="host", secret=b"mine")).place.secret == first


def test_posts_and_workers_are_there_for_as_long_as_somebody_comes_by(roster: Roster, clock: VirtualClock) -> None:
    assert roster.visit(place("", ""), post=POST).posts == (POST,)
    assert roster.visit(place("w"), works=True).working == 1
    assert roster.visit(place("v")).working == 1
    clock.sleep(HOLDS_S - 1)
    assert roster.visit(place("w"), works=True).posts == (POST,)
    clock.sleep(2)
    seen = roster.visit(place("v"))
    assert (seen.posts, seen.working) == ((), 1)
    roster.leave(place("w"))
    assert roster.visit(place("", ""), post=POST).working == 0
    roster.leave(place("", ""), POST)
    assert roster.visit(place("v")).posts == ()


def test_gateways_are_forgotten_only_when_several_visits_missed_them() -> None:
    neighbours = Neighbours("redis://127.0.0.1:1", place("mine"), works=True)
    assert neighbours.changed() is None
    neighbours._take_in((POST, msgspec.structs.replace(POST, place="mine", address="tcp://192.0.2.1:1")))
    assert neighbours.changed() == ("tcp://192.0.2.9:7000",)
    assert neighbours.changed() is None
    for _ in range(MISSED - 1):
        neighbours._take_in(())
        assert neighbours.changed() is None
    neighbours._take_in(())
    assert neighbours.changed() == ()


def test_another_machine_s_loopback_is_not_dialled(capsys: pytest.CaptureFixture[str]) -> None:
    neighbours = Neighbours("redis://127.0.0.1:1", place("mine"), works=True)
    here = msgspec.structs.replace(POST, address="tcp://127.0.0.1:7000", loopback=loopback())
    there = msgspec.structs.replace(here, address="tcp://127.0.0.1:7001", loopback="another machine")
    neighbours._take_in((here, there, msgspec.structs.replace(POST, address="tcp://[::1]:7002")))
    assert neighbours.changed() == ("tcp://127.0.0.1:7000", "tcp://[::1]:7002")


def test_workers_alone_need_a_store_and_share_a_home(redis_server: RedisServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need a store"), prepared_to_work(Config(home=tmp_path)):
        pass
    store = StoreConfig(url=f"{redis_server.url}?prefix=work")
    config = Config(store=store, home=tmp_path)
    with prepared_to_work(config) as first, prepared_to_work(config) as second:
        assert first.place is not None
        assert second.place is not None
        assert second.place.name == f"{first.place.name}-2"
        assert second.named("worker-1") == f"{first.place.name}-2.worker-1"
        assert (first.url, second.secret) == ("", first.secret)
    with prepared_to_work(config) as again:
        assert again.place == first.place
