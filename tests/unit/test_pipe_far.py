"""The pipe over TCP with real sockets: both ends prove who they are before anything else is heard."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freehold import handshake
from freehold.clock import SystemClock
from freehold.config import ServerConfig
from freehold.core import Chunk
from freehold.gateway.desk import Desk
from freehold.gateway.fleet import Fleet, Line
from freehold.gateway.pipe_server import MOST_STRANGERS, PipeServer
from freehold.ledger.group import AsyncLedger
from freehold.ledger.sqlite import SqliteLedger
from freehold.pipe import VERSION, Begun, Challenge, Frame, Hello, Proof, Reader, Tokens, Wake, Welcome, encode
from freehold.telemetry.metrics import Metrics
from freehold.worker.dial import Dial, Refused
from freehold.worker.pipe_client import PipeClient
from freehold.worker.pipes import Pipes

SECRET = b"s" * 32


def hello() -> list[Frame]:
    return [Hello("far.worker-1", 7, None, "life")]


class Gateway:
    """Its end of the pipe, in a loop of its own thread."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / "pipe.sock"
        self.port = 0
        self._up = threading.Event()
        self._over: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(folder)))
        self._thread.start()
        assert self._up.wait(20)

    async def _serve(self, folder: Path) -> None:
        self._over, self._loop = asyncio.Event(), asyncio.get_running_loop()
        ledger = AsyncLedger(lambda: SqliteLedger(folder / "ledger.sqlite"))
        await ledger.start()
        self.desk = Desk(ledger, Fleet(), ServerConfig(), Metrics(), asyncio.ensure_future, name=self.name)
        server = PipeServer(self.path, self.desk)
        await server.start()
        _, self.port = await server.listen_far("127.0.0.1", 0, SECRET)
        self._up.set()
        await self._over.wait()
        server.close()
        for line in list(self.desk.fleet.lines.values()):
            line.close()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        await ledger.close()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, "here")
    yield gateway
    gateway.close()


def until(pipe: PipeClient | Pipes, holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end_s
        pipe.wait(0.05)
        pipe.receive()


def closed(line: socket.socket) -> bool:
    line.settimeout(20)
    try:
        while line.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def turning(dial: Dial) -> None:
    for _ in range(2000):
        dial.turn()
        time.sleep(0.01)


def test_who_knows_the_secret_is_let_in(gateway: Gateway) -> None:
    client = PipeClient(gateway.address, hello, secret=SECRET)
    until(client, lambda: gateway.desk.fleet.lines)
    line = gateway.desk.fleet.lines["far.worker-1"]
    assert (client.gateway, line.owner, line.far) == ("here", "far.worker-1:7:life", True)
    frames: list[object] = []
    line.send(Wake())
    while not frames:
        client.wait(1)
        frames = list(client.receive())
    assert frames[-1] == Wake()
    client.close()


def test_who_doesn_t_is_not(gateway: Gateway) -> None:
    client = PipeClient(gateway.address, hello, secret=b"another")
    until(client, lambda: client._told)
    assert "another store" in client._told
    assert not gateway.desk.fleet.lines
    client.close()


@pytest.mark.parametrize(
    "said",
    [
        encode(Hello("w", 1)),
        encode(Proof(b"short", b"")),
        encode(Proof(secrets.token_bytes(32), secrets.token_bytes(32))),
        encode(Proof(b"n" * 32, b"")) + encode(Hello("w", 1)),
        (1 << 20).to_bytes(4, "little"),
        b"\x04\x00\x00\x00GET ",
    ],
    ids=["hello", "short proof", "wrong proof", "hello behind a proof", "endless frame", "HTTP"],
)
def test_a_stranger_is_hung_up_on(gateway: Gateway, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as line:
        line.sendall(said)
        assert closed(line)
    assert not gateway.desk.fleet.lines


def test_a_silent_stranger_too_and_there_are_not_many(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "PATIENCE_S", 0.3)
    lines = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(MOST_STRANGERS + 4)]
    for line in reversed(lines):
        assert closed(line)
        line.close()
    client = PipeClient(gateway.address, hello, secret=SECRET)
    until(client, lambda: gateway.desk.fleet.lines)
    client.close()


@pytest.mark.parametrize(
    ("version", "mac", "why"), [(VERSION, b"", "can't prove"), (VERSION + 1, b"", "upgrade the older")]
)
def test_a_gateway_that_proves_nothing_hears_nothing(version: int, mac: bytes, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dial = Dial(f"tcp://127.0.0.1:{server.getsockname()[1]}", SECRET, SystemClock())
        line, _ = server.accept()
        line.sendall(encode(Challenge(version, handshake.fresh())) + encode(Welcome("rogue", mac)))
        with pytest.raises(Refused, match=why):
            turning(dial)
        dial.close()
        line.settimeout(20)
        told = line.recv(4096)
        assert all(isinstance(frame, Proof) for frame in Reader().feed(told))
        assert SECRET not in told
        line.close()


def test_no_answer_serves_twice_or_for_the_other_side() -> None:
    one, two, nonce = Challenge(VERSION, handshake.fresh()), Challenge(VERSION, handshake.fresh()), handshake.fresh()
    proof = handshake.prove(SECRET, one, nonce)
    assert handshake.may_enter(SECRET, one, proof)
    assert not handshake.may_enter(SECRET, two, proof)
    assert not handshake.may_enter(b"other", one, proof)
    told = handshake.welcome(SECRET, "g", one, proof)
    assert handshake.is_it(SECRET, one, nonce, told)
    assert not handshake.is_it(SECRET, one, nonce, Welcome("h", told.mac))
    assert not handshake.is_it(SECRET, one, nonce, Welcome("g", proof.mac))


def hears(heard: list[str]) -> Callable[[Line, Tokens], None]:
    return lambda line, frame: heard.extend([c.id for c in frame.chunks] + [f"{id} begun" for id in frame.begun])


def test_chunks_go_to_the_gateways_that_asked(tmp_path: Path) -> None:
    gateways = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        gateways.append(Gateway(tmp_path / name, name))
    heard: dict[str, list[str]] = {"one": [], "two": []}
    for each in gateways:
        each.desk.tokens = hears(heard[each.name])  # type: ignore[method-assign]
    pipes = Pipes((str(gateways[0].path), gateways[1].address), hello, secret=SECRET)
    until(pipes, lambda: all(client.gateway for client in pipes._clients.values()))
    frame = Tokens([Chunk(id, 0, 0, 1, "x") for id in ("mine", "yours", "both", "gone", "anyone's")])
    asked = {"mine": {"one"}, "yours": {"two"}, "both": {"one", "two"}, "gone": {"three"}}
    pipes.tell(frame, asked)
    until(pipes, lambda: all(heard.values()))
    assert heard == {"one": ["mine", "both", "gone", "anyone's"], "two": ["yours", "both", "gone", "anyone's"]}
    pipes.tell(Tokens([], {"mine": Begun(1, 0.0)}), {"mine": {"one"}})  # begun, and nothing made yet
    until(pipes, lambda: heard["one"][-1] == "mine begun")
    assert heard["two"][-1] == "anyone's"
    pipes.close()
    for each in gateways:
        each.close()
