"""The dialling end of the pipe against real sockets: late peers, slow peers, broken peers."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.clock import VirtualClock
from freehold.core import Chunk, WorkerStatus
from freehold.pipe import AnyFrame, Cancel, Frame, Hello, Reader, Status, Tokens, Wake, encode
from freehold.worker import pipe_client
from freehold.worker.pipe_client import PipeClient

HELLO = Hello("worker-1", 7)
STATUS = Status(WorkerStatus(name="worker-1", pid=7, state="ready"))


def tokens(offset: int, size: int = 1) -> Tokens:
    return Tokens([Chunk("a", 0, offset, 1, "x" * size)])


class Peer:
    """The listening end."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.line: socket.socket | None = None

    def accept(self) -> None:
        self.close_line()
        self.line, _ = self.server.accept()
        self.line.settimeout(20)
        self.reader = Reader()

    def read(self, count: int) -> list[AnyFrame]:
        assert self.line is not None
        frames: list[AnyFrame] = []
        while len(frames) < count:
            data = self.line.recv(1 << 16)
            assert data
            frames += self.reader.feed(data)
        return frames

    def close_line(self) -> None:
        if self.line is not None:
            self.line.close()

    def close(self) -> None:
        self.close_line()
        self.server.close()


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "pipe.sock"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(100.0)


@pytest.fixture
def client(path: Path, clock: VirtualClock) -> Iterator[PipeClient]:
    def greet() -> list[Frame]:
        return [HELLO, STATUS]

    client = PipeClient(path, greet, clock)
    yield client
    client.close()


@pytest.fixture
def peer(path: Path) -> Iterator[Peer]:
    peer = Peer(path)
    yield peer
    peer.close()


def test_it_greets_first_and_talks_both_ways(client: PipeClient, peer: Peer) -> None:
    assert client.receive() == []
    client.send(tokens(0))
    peer.accept()
    assert peer.read(3) == [HELLO, STATUS, tokens(0)]
    assert peer.line is not None
    peer.line.sendall(encode(Wake()) + encode(Cancel("a")))
    client.wait(20.0)
    assert client.receive() == [Wake(), Cancel("a")]


def test_without_a_peer_tokens_wait_and_statuses_do_not(client: PipeClient, clock: VirtualClock, path: Path) -> None:
    client.receive()
    client.send(STATUS)
    client.send(tokens(0))
    client.send(tokens(1))
    assert not client.connected
    peer = Peer(path)
    clock.sleep(5.0)
    client.receive()
    peer.accept()
    assert peer.read(4) == [HELLO, STATUS, tokens(0), tokens(1)]
    peer.close()


def test_it_tries_again_and_again_with_growing_pauses(client: PipeClient, clock: VirtualClock) -> None:
    tries = []
    for _ in range(200):
        before = client._next_try_s
        client.receive()
        if client._next_try_s != before:
            tries.append(client._next_try_s - clock.monotonic_s())
        clock.sleep(0.05)
    assert tries[:6] == pytest.approx([0.05, 0.1, 0.2, 0.25, 0.25, 0.25])
    assert tries[6:] == pytest.approx([0.25] * len(tries[6:]))


def test_after_a_break_it_greets_again_and_repeats_the_broken_frame(
    client: PipeClient, peer: Peer, clock: VirtualClock
) -> None:
    client.receive()
    peer.accept()
    peer.read(2)
    client.send(tokens(0, 8 << 20))  # more than the socket takes: half of it is on the wire
    client.send(tokens(1))
    assert client.unsent_bytes > 0
    peer.close_line()
    client.receive()
    assert not client.connected
    clock.sleep(5.0)
    client.receive()
    peer.accept()
    frames: list[AnyFrame] = []
    assert peer.line is not None
    while len(frames) < 4:
        client.receive()
        frames += peer.reader.feed(peer.line.recv(1 << 16))
    assert frames == [HELLO, STATUS, tokens(0, 8 << 20), tokens(1)]


def test_a_status_that_could_not_be_sent_is_not_told_after_a_newer_one(
    client: PipeClient, peer: Peer, clock: VirtualClock
) -> None:
    client.receive()
    peer.accept()
    peer.read(2)
    peer.close_line()
    client.send(Status(WorkerStatus(name="worker-1", pid=7, state="busy")))  # the break is noticed by this
    client.send(tokens(0))
    assert not client.connected
    clock.sleep(5.0)
    client.receive()
    peer.accept()
    assert peer.read(3) == [HELLO, STATUS, tokens(0)]


def test_what_waits_is_bounded_and_the_oldest_goes(client: PipeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe_client, "KEPT_BYTES", 10_000)
    for offset in range(20):
        client.send(tokens(offset, 1000))
    assert client.unsent_bytes <= 10_000
    assert client.dropped_frames > 10


def test_a_peer_that_talks_nonsense_is_left(client: PipeClient, peer: Peer) -> None:
    client.receive()
    peer.accept()
    assert peer.line is not None
    peer.line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    client.wait(20.0)
    assert client.receive() == []
    assert not client.connected


def test_flush_waits_for_a_slow_reader_but_not_for_ever(path: Path, peer: Peer) -> None:
    client = PipeClient(path, lambda: [HELLO])
    client.receive()
    client.send(tokens(0, 4 << 20))
    assert not client.flush(0.01)
    peer.accept()
    peer.close_line()
    assert not client.flush(20.0)
    client.close()
