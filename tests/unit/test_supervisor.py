"""The supervisor's parts: when to restart, how an end is told, what must be in place, what crosses the tether."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import pytest

from freehold.config import Config
from freehold.core import Failure, Request
from freehold.errors import ConfigError, GaveUp, ModelError, StoreError
from freehold.ledger.sqlite import SqliteLedger
from freehold.settings import ServerConfig, StoreConfig
from freehold.worker import site, tether, upkeep
from freehold.worker.child import Child, how_it_ended
from freehold.worker.restarts import End, Limits, Restarts
from freehold.worker.tether import GatewayOrder, Report

BROKEN_MODEL = ModelError("The file is cut off.").failure()


def after(
    restarts: Restarts, ready_s: float | None, failure: Failure | None = None, *, code: int = 1, **more: bool
) -> float:
    return restarts.after(End("ended", ready_s, code, failure), "worker-1", **more)


def test_pauses_double_up_to_the_limit_and_are_forgotten_after_health() -> None:
    restarts = Restarts(Limits())
    assert [after(restarts, 1.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert after(restarts, 61.0) == 0.5
    assert restarts.count == 9


def test_five_lives_without_being_ready_are_enough() -> None:
    restarts = Restarts(Limits())
    for _ in range(4):
        after(restarts, None)
    with pytest.raises(GaveUp, match="5 tries"):
        after(restarts, None, Failure(code="engine_failed", what="It fell over."))


def test_one_ready_life_starts_the_count_anew() -> None:
    restarts = Restarts(Limits())
    for ready_s in (None, None, None, None, 1.0, None, None, None, None):
        after(restarts, ready_s)


def test_what_cannot_heal_is_not_tried_again() -> None:
    with pytest.raises(ModelError, match="cut off"):
        after(Restarts(Limits()), None, BROKEN_MODEL)
    served = Restarts(Limits())
    after(served, 100.0)
    assert after(served, None, BROKEN_MODEL) > 0  # it worked before: the file may be back soon


def test_kills_say_nothing_of_a_model_that_was_ready_once() -> None:
    restarts = Restarts(Limits())
    for signal in (9, 15, 2, 9, 15, 9, 9):
        after(restarts, None, code=-signal, proven=True)
    for code, proven in ((-9, False), (-11, True)):
        never = Restarts(Limits())
        for _ in range(4):
            after(never, None, code=code, proven=proven)
        with pytest.raises(GaveUp, match="5 tries"):
            after(never, None, code=code, proven=proven)


def test_while_others_serve_nobody_is_given_up_and_pauses_stay_bounded() -> None:
    restarts = Restarts(Limits(most_s=2.0))
    waits = [after(restarts, None, BROKEN_MODEL, others_serve=True) for _ in range(9)]
    assert waits[-1] == 2.0
    assert restarts.count == 9
    with pytest.raises(ModelError):
        after(restarts, None, BROKEN_MODEL)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "code 0"), (4, "code 4"), (-9, "SIGKILL"), (-11, "native code"), (-4, "processor"), (-15, "SIGTERM")],
)
def test_an_end_in_words(code: int, words: str) -> None:
    assert words in how_it_ended(code)
    assert "memory" in how_it_ended(-9, oom_killed=True)


def test_a_child_reports_and_its_order_is_not_on_the_command_line() -> None:
    program = (
        sys.executable, "-c",
        "import sys; from freehold.worker.tether import *; fd = int(sys.argv[3])\n"
        "order = receive(fd, Report); assert order.detail[::-1] == 'terces'\n"
        "import psutil; assert order.detail not in str(psutil.Process().cmdline())\n"
        "write_line(fd, Report(state='loading', phase='map')); write_line(fd, Report(state='ready', memory_bytes=7))\n"
        "receive(fd, Report)",
    )  # fmt: skip
    child = Child("x", "work", Report(state="loading", detail="secret"), Limits())
    child.start(program, 0.0)
    reports: list[Report] = []
    while len(reports) < 2:
        reports += child.reports(5.0)
        assert child.exit_code() is None
        time.sleep(0.01)
    assert [report.state for report in reports] == ["loading", "ready"]
    assert (child.state, child.ready_at_s, child.memory_bytes) == ("ready", 5.0, 7)
    assert child.tether is not None
    child.tether.close()
    assert child.process is not None
    assert child.process.wait(30) == tether.ORPHANED
    assert "exit code 1" in child.bury()
    assert child.state == "dead"


def test_settings_cross_the_tether_whole(tmp_path: Path) -> None:
    config = Config(server=ServerConfig(cors_origins=("http://a", "http://b")), home=tmp_path)
    order = GatewayOrder(config=tether.settings(config), store_path="s", pipe_path="p", listen_fd=5)
    ours, theirs = tether.pair()
    tether.write_line(ours.fileno(), order)
    got = tether.receive(theirs.fileno(), GatewayOrder)
    assert (got.listen_fd, tether.config_of(got)) == (5, config)
    ours.close()
    theirs.close()


def at(home: Path, **store: str) -> Config:
    return Config(server=ServerConfig(port=0), store=StoreConfig(**store), home=home)


def test_a_site_is_private_exclusive_and_cleaned_up(tmp_path: Path) -> None:
    with site.prepared(at(tmp_path / "home")) as first:
        assert first.port > 0
        assert first.url == f"http://127.0.0.1:{first.port}"
        assert (tmp_path / "home" / "run").stat().st_mode & 0o077 == 0
        assert (tmp_path / "home" / "state").stat().st_mode & 0o077 == 0
        with pytest.raises(ConfigError, match="already serves"), site.prepared(at(tmp_path / "home")):
            pass
        with (
            pytest.raises(ConfigError, match="already serves"),
            site.prepared(at(tmp_path / "other", path=first.store_path)),
        ):
            pass
    with site.prepared(at(tmp_path / "home")):
        pass


def test_a_long_home_gets_a_short_pipe_path(tmp_path: Path) -> None:
    with site.prepared(at(tmp_path / ("long" * 40))) as place:
        assert len(place.pipe_path) <= site.SOCKET_PATH_BYTES
        folder = Path(place.pipe_path).parent
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = Config(server=ServerConfig(port=port), home=tmp_path)
        with pytest.raises(ConfigError, match=f":{port}.*Another program"), site.prepared(config):
            pass


def test_until_the_port_is_opened_connections_are_refused_and_nobody_else_may_listen(tmp_path: Path) -> None:
    with site.prepared(at(tmp_path)) as place:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", place.port))
        site.open_port(place)
        socket.create_connection(("127.0.0.1", place.port)).close()
        config = Config(server=ServerConfig(port=place.port), home=tmp_path / "other")
        with pytest.raises(ConfigError, match="Another program"), site.prepared(config):
            pass


def test_who_takes_the_port_before_it_is_opened_is_noticed(tmp_path: Path) -> None:
    with (
        site.prepared(at(tmp_path)) as place,
        socket.create_server(("127.0.0.1", place.port)),
        pytest.raises(ConfigError, match="Another program"),
    ):
        site.open_port(place)


def test_a_home_in_a_file_s_place_and_a_missing_store_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Can't use the folder"), site.prepared(at(tmp_path / "file")):
        pass
    missing = at(tmp_path / "home", path=str(tmp_path / "nowhere" / "l.sqlite"))
    with pytest.raises((ConfigError, StoreError), match="nowhere"), site.prepared(missing):
        pass


def test_what_was_running_goes_back_to_the_queue(tmp_path: Path) -> None:
    with site.prepared(at(tmp_path)) as place:
        ledger = SqliteLedger(place.store_path)
        ledger.accept([Request(id="a", model="m", kind="text")])
        assert ledger.claim("worker-1:1", 1, "m")
    with site.prepared(at(tmp_path)):
        assert ledger.depth().queued == 1
    ledger.close()


def test_upkeep_moves_the_log_into_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "EVERY_S", 0.01)
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    ledger.accept([Request(id=f"r{i}", model="m", kind="text", prompt="x" * 2000) for i in range(200)])
    before = path.stat().st_size
    with upkeep.Upkeep(str(path)):
        while path.stat().st_size <= before:
            time.sleep(0.01)
    assert ledger.check_integrity() == []
    ledger.close()


def test_upkeep_of_a_broken_ledger_only_says_so(tmp_path: Path) -> None:
    with upkeep.Upkeep(str(tmp_path / "nowhere" / "ledger.sqlite")):
        pass
