"""Redis as a store: refused when unsafe, clear when something is wrong, and calls whose answer is lost on the way."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from freehold.core import Request
from freehold.errors import StoreError
from freehold.ledger.open import open_ledger
from freehold.ledger.redis import RedisLedger
from redis_server import RedisServer, running


def ask(id: str) -> Request:
    return Request(id=id, model="m", kind="text", prompt="p")


@contextmanager
def setting(server: RedisServer, **values: str) -> Iterator[None]:
    client = redis.Redis.from_url(server.url)
    before = {name.replace("_", "-"): client.config_get(name.replace("_", "-")) for name in values}
    try:
        for name, value in values.items():
            client.config_set(name.replace("_", "-"), value)
        yield
    finally:
        for name, old in before.items():
            client.config_set(name, old[name])
        client.close()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"appendfsync": "everysec"}, "appendfsync is everysec"),
        ({"appendfsync": "no"}, "appendfsync is no"),
        ({"appendonly": "no"}, "append-only file"),
        ({"maxmemory": "900mb", "maxmemory_policy": "allkeys-lru"}, "drops keys"),
    ],
)
def test_an_unsafe_server_is_refused(redis_server: RedisServer, values: dict[str, str], words: str) -> None:
    with setting(redis_server, **values), pytest.raises(StoreError, match=words):
        open_ledger(redis_server.url, fsync="always")


def test_the_loss_of_a_second_can_be_accepted_but_not_of_everything(redis_server: RedisServer) -> None:
    with setting(redis_server, appendfsync="everysec"):
        open_ledger(f"{redis_server.url}?prefix=everysec", fsync="everysec").close()
    with setting(redis_server, appendfsync="no"), pytest.raises(StoreError, match="appendfsync is no"):
        open_ledger(redis_server.url, fsync="everysec")


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    with running(tmp_path, "--appendonly", "yes", "--appendfsync", "always", "--requirepass", "right") as server:
        for login in ("ann:sesame@", ":sesame@", ""):
            with pytest.raises(StoreError, match="refused the name or password") as caught:
                open_ledger(server.url.replace("//", f"//{login}"))
            assert "sesame" not in str(caught.value)
            assert str(server.port) in str(caught.value)
        open_ledger(server.url.replace("//", "//:right@"), fsync="always").close()


def test_nobody_there_and_a_wrong_url() -> None:
    with pytest.raises(StoreError, match="can't be reached"):
        open_ledger("redis://127.0.0.1:1/0")
    with pytest.raises(StoreError, match="URL isn't one"):
        open_ledger("redis://127.0.0.1:1/0?no_such_option=1")


def test_a_newer_layout_is_left_alone(redis_server: RedisServer) -> None:
    client = redis.Redis.from_url(redis_server.url)
    client.set("{newer}:version", 99)
    client.close()
    with pytest.raises(StoreError, match="newer Freehold"):
        open_ledger(f"{redis_server.url}?prefix=newer")


def test_a_hung_server_is_an_error_in_time_and_goes_on_afterwards(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        ledger = RedisLedger(server.url, timeout_s=0.2)
        ledger.accept([ask("a")])
        server.signal(signal.SIGSTOP)
        with pytest.raises(StoreError, match="in time"):
            ledger.claim("w:1", 1, "m")
        server.signal(signal.SIGCONT)
        # The server did carry it out: asked again, it is the same claim.
        assert [(claim.request.id, claim.attempt) for claim in ledger.claim("w:1", 1, "m")] == [("a", 1)]
        assert ledger.claim("w:1", 1, "m") == []
        ledger.close()


def test_full_memory_refuses_and_adds_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        ledger = open_ledger(server.url, fsync="always")
        ledger.accept([ask("a")])
        with setting(server, maxmemory="1mb"):
            with pytest.raises(StoreError, match="memory is full"):
                ledger.accept([ask("b"), ask("c")])
            assert ledger.fetch("b") is None
        assert ledger.accept([ask("b")]) == ["b"]
        assert ledger.check_integrity() == []
        ledger.close()


class Cutter:
    """A relay to the server that can lose an answer: it is read, and the connection closed in its place."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lose_next = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [client, server]
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            return

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                if self.lose_next:
                    self.lose_next = False
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            each.close()


def test_an_answer_lost_on_the_way_is_asked_for_again(redis_server: RedisServer) -> None:
    cutter = Cutter(redis_server.port)
    ledger = RedisLedger(f"redis://127.0.0.1:{cutter.port}/0", prefix="cut")
    ledger.accept([ask("a"), ask("b")])
    assert [claim.request.id for claim in ledger.claim("w:1", 1, "m")] == ["a"]
    cutter.lose_next = True
    assert ledger.accept([ask("c")]) == ["c"]
    cutter.lose_next = True
    assert [(claim.request.id, claim.attempt) for claim in ledger.claim("w:1", 1, "m")] == [("b", 1)]
    assert [claim.request.id for claim in ledger.claim("w:1", 9, "m")] == ["c"]
    assert ledger.depth().queued == 0
    assert ledger.check_integrity() == []
    ledger.close()
    cutter.close()
