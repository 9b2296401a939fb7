"""More than the server can do: who is refused, when to come back, what a deadline means in each state, slow readers."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from freehold.gateway import auth
from freehold.profile import Profile, StepLaw, save
from server import Server

TEXT = "/v1/completions"
DEADLINE, PRIORITY = "x-freehold-deadline-ms", "x-freehold-priority"
STEP_MS = 10.0


def profile(folder: Path, places: int) -> str:
    path = folder / f"steady-{places}.json"
    save(
        Profile(
            name="steady", model="none", engine="sim", machine="any", date="2026-11-25",
            source="Assumed: every step takes 10 ms.", step=StepLaw(base_ms=STEP_MS), sweet_batch=places,
            max_batch=places, context_tokens=40_000,
        ),
        path,
    )  # fmt: skip
    return f"sim:{path}"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers one request at a time, 100 tokens/s."""
    folder = tmp_path_factory.mktemp("one")
    with Server(folder, model=profile(folder, 1)) as server:
        yield server


def post(server: Server, prompt: str, tokens: int = 5, key: str = "", **headers: str) -> httpx.Response:
    body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        sent["authorization"] = f"Bearer {key}"
    return httpx.post(server.url + TEXT, json=body, headers=sent, timeout=60, trust_env=False)


def with_deadline(server: Server, prompt: str, ms: int, tokens: int = 5) -> httpx.Response:
    return post(server, prompt, tokens, **{DEADLINE: str(ms)})


def code(reply: httpx.Response) -> str:
    return str(reply.json()["error"]["code"])


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.01)


def info(server: Server) -> dict[str, Any]:
    told: dict[str, Any] = httpx.get(f"{server.url}/freehold/info", trust_env=False).json()
    return told


def metric(server: Server, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


class Blocked:
    """`with Blocked(server):` while one long answer holds the only place. Leaving hangs up."""

    def __init__(self, server: Server, tokens: int = 2000) -> None:
        self.server = server
        self.tokens = tokens
        self.connection = socket.create_connection(("127.0.0.1", server.port))

    def __enter__(self) -> None:
        body = b'{"prompt": "blocker", "stream": true, "ignore_eos": true, "max_tokens": %d}' % self.tokens
        head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self.connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        until(lambda: info(self.server)["running"] == 1)

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        until(
            lambda: info(self.server)["running"] == 0 and not any(row["running"] for row in self.server.worker_rows())
        )


def in_background(*work: Callable[[], httpx.Response]) -> Callable[[], list[httpx.Response]]:
    found: dict[int, httpx.Response] = {}

    def call(number: int, each: Callable[[], httpx.Response]) -> None:
        found[number] = each()

    threads = [threading.Thread(target=call, args=pair) for pair in enumerate(work)]
    for thread in threads:
        thread.start()

    def results() -> list[httpx.Response]:
        for thread in threads:
            thread.join(60)
        return [found[number] for number in range(len(work))]

    return results


# ---- deadlines -----------------------------------------------------------------------------------


def test_a_deadline_that_no_server_could_meet_is_refused_for_good(one: Server) -> None:
    reply = with_deadline(one, "hopeless", 300, tokens=1000)
    assert (reply.status_code, code(reply)) == (503, "deadline_unmeetable")
    assert "retry-after" not in reply.headers
    assert reply.headers["x-should-retry"] == "false"
    assert with_deadline(one, "easy", 30_000).status_code == 200


def test_a_deadline_that_can_be_met_later_says_when_and_keeps_its_word(one: Server) -> None:
    with Blocked(one, tokens=150):
        early = with_deadline(one, "later", 400)
        assert (early.status_code, code(early)) == (503, "deadline_unmeetable")
        assert early.headers["x-should-retry"] == "true"
        after_s = int(early.headers["retry-after-ms"]) / 1000
        assert 0 < after_s <= int(early.headers["retry-after"])
        time.sleep(after_s)
        assert with_deadline(one, "later", 400).status_code == 200


def test_what_expires_in_the_queue_is_told_so_and_never_executed(tmp_path: Path) -> None:
    """With admission off, so that such requests come into the queue at all."""
    with Server(tmp_path, model=profile(tmp_path, 1), flags={"server.admission": "off"}) as server:
        blocker = in_background(lambda: post(server, "blocker", 100))
        until(lambda: info(server)["running"] == 1)
        replies = in_background(*(lambda n=n: with_deadline(server, f"late {n}", 200) for n in range(10)))()
        assert [(reply.status_code, code(reply)) for reply in replies] == [(504, "deadline_passed")] * 10
        assert [reply.status_code for reply in blocker()] == [200]
        assert post(server, "and then", 7).status_code == 200
        until(lambda: server.worker_rows()[0]["state"] == "ready")
        assert server.worker_rows()[0]["tokens"] == 107


def test_a_deadline_is_counted_from_arrival_and_carried_into_the_order(one: Server) -> None:
    with Blocked(one, tokens=60):
        done: list[str] = []

        def call(name: str, ms: int) -> httpx.Response:
            reply = with_deadline(one, name, ms)
            done.append(name)
            return reply

        patient = in_background(lambda: call("patient", 60_000))
        until(lambda: info(one)["queued"] == 1)
        urgent = in_background(lambda: call("urgent", 20_000))
        assert [reply.status_code for reply in patient() + urgent()] == [200, 200]
        assert done == ["urgent", "patient"]


@pytest.mark.parametrize("value", ["0", "-5", "soon", "1.5", "", "999999999999999999999999"])
def test_a_deadline_that_is_none_is_refused(one: Server, value: str) -> None:
    reply = post(one, "x", **{DEADLINE: value})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, DEADLINE)


# ---- the queue -----------------------------------------------------------------------------------


def test_a_flood_is_refused_at_once_and_who_comes_back_is_answered(tmp_path: Path) -> None:
    """Three times what 4 places do; OpenAI's own client obeys Retry-After."""

    async def ask(client: openai.AsyncOpenAI, number: int) -> int:
        await asyncio.sleep(number / 120)
        try:
            answer = await client.completions.create(
                model="tester", prompt=f"question {number}", max_tokens=10, extra_body={"ignore_eos": True}
            )
        except openai.APIStatusError as error:
            assert error.code in ("deadline_unmeetable", "deadline_passed")  # noqa: PT017
            return error.status_code
        assert answer.usage is not None
        return answer.usage.completion_tokens

    async def flood(url: str) -> list[int]:
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=1, timeout=60, default_headers={DEADLINE: "800"}
        ) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(240)))

    with Server(tmp_path, model=profile(tmp_path, 4)) as server:
        told = asyncio.run(flood(server.url))
        refused = metric(server, "freehold_refused_total")
        assert refused > 60
        assert told.count(10) >= 0.8 * len(told)
        assert info(server)["queued"] == info(server)["running"] == 0
        assert with_deadline(server, "afterwards", 5000).status_code == 200


def test_bounds_of_the_queue(tmp_path: Path) -> None:
    flags = {"server.max_queue": 3, "server.max_queued_tokens": 500}
    with Server(tmp_path, model=profile(tmp_path, 1), flags=flags) as server:
        with Blocked(server):
            waiting = in_background(lambda: post(server, "wide", 300))
            until(lambda: info(server)["queued"] == 1)
            wide = post(server, "as wide", 300)
            assert (wide.status_code, code(wide)) == (429, "overloaded")
            assert "max_queued_tokens" in wide.json()["error"]["message"]
            more = in_background(*(lambda n=n: post(server, f"slim {n}", 2) for n in range(2)))
            until(lambda: info(server)["queued"] == 3)
            full = post(server, "one too many", 2)
            assert (full.status_code, code(full)) == (429, "overloaded")
            assert "max_queue" in full.json()["error"]["message"]
            assert int(full.headers["retry-after"]) >= 1
            assert metric(server, "freehold_refused_total") == 2
        assert [reply.status_code for reply in waiting() + more()] == [200] * 3


def test_priorities_and_limits_of_keys(tmp_path: Path) -> None:
    _, plain = auth.add(tmp_path, "plain", max_queued=1)
    _, vip = auth.add(tmp_path, "vip", priority=-10)
    _, hasty = auth.add(tmp_path, "hasty", deadline_ms=50)
    with Server(tmp_path, model=profile(tmp_path, 1), flags={"server.api_keys": "on"}) as server:
        assert post(server, "x", key=plain, **{PRIORITY: "-1"}).status_code == 403
        assert post(server, "x", key=plain, **{PRIORITY: "101"}).status_code == 400
        assert post(server, "x", key=vip, **{PRIORITY: "-10"}).status_code == 200
        assert code(post(server, "x", 50, key=hasty)) == "deadline_unmeetable"
        done: list[str] = []

        def call(name: str, key: str, tokens: int = 5) -> httpx.Response:
            reply = post(server, name, tokens, key=key)
            done.append(name)
            return reply

        blocker = in_background(lambda: call("blocker", vip, 100))
        time.sleep(0.2)
        first = in_background(lambda: call("plain", plain))
        time.sleep(0.2)
        limited = post(server, "second", key=plain)
        assert (limited.status_code, code(limited)) == (429, "key_limited")
        sooner = in_background(lambda: call("vip", vip))
        assert [reply.status_code for reply in blocker() + first() + sooner()] == [200] * 3
        assert done == ["blocker", "vip", "plain"]


# ---- answers and readers that go too far ---------------------------------------------------------


def test_an_answer_without_a_limit_gets_one(tmp_path: Path) -> None:
    with Server(tmp_path, flags={"server.default_max_tokens": 6}) as server:
        body = {"prompt": "on and on", "ignore_eos": True}
        reply = httpx.post(server.url + TEXT, json=body, trust_env=False).json()
        assert reply["choices"][0]["finish_reason"] == "length"
        assert reply["usage"]["completion_tokens"] == 6
        assert post(server, "as long as asked for", 9).json()["usage"]["completion_tokens"] == 9
        assert metric(server, "freehold_runaway_answers_total") == 1


def deaf_reader(server: Server, tokens: int) -> socket.socket:
    """A client that asks for a long stream with everything in it, and reads none of it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    body = b'{"prompt": "x", "stream": true, "ignore_eos": true, "max_tokens": %d, "n": 4, "logprobs": 5}' % tokens
    head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_a_slow_reader_costs_bounded_memory(tmp_path: Path) -> None:
    with Server(tmp_path, flags={"server.max_unread_mb": 2}) as server:
        assert server.gateway is not None
        gateway = psutil.Process(server.gateway.process.pid)
        post(server, "warm", 50)
        before = gateway.memory_info().rss
        readers = [deaf_reader(server, 20_000) for _ in range(4)]
        most = before
        while metric(server, "freehold_slow_readers_total") < len(readers):
            most = max(most, gateway.memory_info().rss)
            time.sleep(0.01)
        until(lambda: not any(row["running"] for row in server.worker_rows()))
        # 2 MiB each as counted; Python's own bookkeeping and what was on its way come on top.
        assert most - before < 80 << 20
        assert post(server, "others are served", 5).status_code == 200
        for reader in readers:
            reader.close()


def test_a_reader_that_stands_still_is_left(tmp_path: Path) -> None:
    with Server(tmp_path, flags={"server.stall_s": 0.3, "server.max_unread_mb": 200}) as server:
        reader = deaf_reader(server, 5_000)
        until(lambda: "client.stalled" in server.gateway_log())
        until(lambda: metric(server, "freehold_disconnects_total") == 1)
        assert post(server, "others are served", 5).status_code == 200
        reader.close()
