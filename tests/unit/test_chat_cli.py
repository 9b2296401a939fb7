"""`freehold chat` against a small OpenAI-compatible server: called by a script, and used by a person at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from freehold.cli import chat, http
from freehold.cli.chat_commands import Talk, obey
from freehold.cli.chat_stream import Heard, figures
from freehold.errors import (
    FreeholdError,
    InvalidRequest,
    ModelNotFound,
    Unauthorized,
    Unreachable,
    UsageError,
)

ANSWER = ["Hel", "lo [b]you[/b]", " é", "."]
TIMINGS = {"queue_ms": 0.4, "ttft_ms": 8.25, "total_ms": 30.0, "tokens_per_s": 217.6}


class Upstream(ThreadingHTTPServer):
    """Answers like OpenAI; a word in the last message chooses how it goes wrong. `asked` keeps the bodies."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[Any] = []
        self.keys: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.hold = threading.Event()
        """Set to let a held answer go on."""


class Handler(BaseHTTPRequestHandler):
    server: Upstream

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.keys.append(self.headers.get("authorization"))
        self.reply(200, {"object": "list", "data": [{"id": "small"}, {"id": "large"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        last = body["messages"][-1]["content"]
        if "refuse" in last:
            error = {"message": "temperature is too high.", "code": "invalid_request", "param": "temperature"}
            self.reply(400, {"error": error})
        elif "unauthorized" in last:
            self.reply(401, {"error": {"message": "Incorrect API key.", "code": "invalid_api_key"}})
        else:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.stream(last, body["model"] == "small")

    def reply(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, last: str, timed: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        if timed:
            self.send_header("x-freehold-queue-ms", "0.4")
            self.send_header("x-freehold-ttft-ms", "8.2")
        self.end_headers()
        seen = int(self.headers.get("last-event-id") or -1)
        for number, piece in enumerate(ANSWER):
            if number <= seen:
                continue
            if "lose" in last:
                self.wfile.write(f"id: {number}\n".encode())
            self.event({"choices": [{"index": 0, "delta": {"content": piece}}]})
            if number == 1 and "lose" in last:
                return
            if number == 1 and "hold" in last:
                self.server.hold.wait(10)
            if number == 1 and "die" in last:
                return
            if number == 1 and "break" in last:
                self.event({"error": {"message": "The worker died.", "code": "worker_died"}})
                return
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 9, "completion_tokens": len(ANSWER)}
        self.event({"choices": [], "usage": usage, **({"timings": TIMINGS} if timed else {})})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, data: object) -> None:
        self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


def ask(upstream: Upstream, text: str, **options: Any) -> None:
    chat.run(upstream.url, chat.Options(message=text, **options))


# ---- one message ---------------------------------------------------------------------------------


def test_one_message_gives_the_answer_alone(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    ask(upstream, "hi", system="Be brief.", temperature=0.0, max_tokens=9, seed=3)
    assert capsys.readouterr().out == "".join(ANSWER) + "\n"
    assert upstream.asked == [
        {
            "model": "small",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
            "temperature": 0.0,
            "max_tokens": 9,
            "seed": 3,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_json_is_one_object_on_the_last_line(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    ask(upstream, "hi", as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["text"] == "".join(ANSWER)
    assert (told["model"], told["finish_reason"]) == ("small", "stop")
    assert told["usage"]["completion_tokens"] == len(ANSWER)
    assert told["timings"] == TIMINGS


def test_another_servers_answer_is_timed_here(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    ask(upstream, "hi", model="large", as_json=True)
    timings = json.loads(capsys.readouterr().out)["timings"]
    assert timings["ttft_ms"] > 0
    assert timings["total_ms"] >= timings["ttft_ms"]
    assert "queue_ms" not in timings


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("refuse", InvalidRequest, "temperature is too high"),
        ("unauthorized", Unauthorized, "FREEHOLD_API_KEY"),
        ("die", Unreachable, "before the answer was complete"),
        ("break", FreeholdError, "The worker died."),
    ],
)
def test_what_goes_wrong_is_raised_as_itself(
    upstream: Upstream, text: str, kind: type[FreeholdError], words: str
) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        ask(upstream, text)


def test_an_answer_that_breaks_off_goes_on_by_itself(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    ask(upstream, "lose it")
    assert capsys.readouterr().out == "".join(ANSWER) + "\n"
    assert len(upstream.asked) == 2


def test_nobody_there_says_how_to_start_a_server(upstream: Upstream) -> None:
    with pytest.raises(Unreachable, match="freehold serve") as caught:
        chat.run("http://127.0.0.1:9", chat.Options(message="hi"))
    assert caught.value.exit_code == 5


def test_an_unknown_path_is_an_error_of_the_server(upstream: Upstream) -> None:
    error = http.error_of({"message": "No such model.", "code": "model_not_found", "param": "model"}, 404)
    assert isinstance(error, ModelNotFound)
    assert (error.status, error.param) == (404, "model")
    stranger = http.error_of("Bad gateway", 502)
    assert (stranger.what, stranger.status) == ("Bad gateway", 502)


@pytest.mark.parametrize("url", ["localhost:8000", "http://localhost:8000/", "http://localhost:8000/v1"])
def test_addresses_may_be_short(url: str) -> None:
    assert http.base_url(url) == "http://localhost:8000"


@pytest.mark.parametrize("url", ["", "ftp://host", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        http.base_url(url)


def test_the_key_comes_from_the_environment(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_API_KEY", "fh-1")
    assert http.get_json(upstream.url, "/v1/models")["data"][0]["id"] == "small"
    http.get_json(upstream.url, "/v1/models", api_key="fh-2")
    assert upstream.keys == ["Bearer fh-1", "Bearer fh-2"]


def test_figures_are_one_line() -> None:
    heard = Heard(usage={"completion_tokens": 57}, timings=dict(TIMINGS))
    assert figures(heard) == "218 tokens/s · 8 ms to first token · <1 ms in queue · 57 tokens"
    slow = Heard(usage={"completion_tokens": 1}, timings={"tokens_per_s": 9.44, "ttft_ms": 1234.0}, by="client")
    assert figures(slow) == "9.4 tokens/s · 1.23 s to first token · 1 token · measured here"


# ---- slash commands ------------------------------------------------------------------------------


def test_commands_change_the_talk(tmp_path: Path) -> None:
    talk = Talk("small")
    names = ["small", "large"]
    talk.said("user", "hi")
    talk.said("assistant", "hello")
    assert "hello" not in str(obey("/system Be kind.", talk, lambda: names).words)
    assert talk.body()["messages"][0] == {"role": "system", "content": "Be kind."}
    file = tmp_path / "talk.md"
    assert str(file) in obey(f"/save {file}", talk, lambda: names).words
    assert file.read_text() == (
        "# Conversation with small\n\n**system**\n\nBe kind.\n\n**user**\n\nhi\n\n**assistant**\n\nhello\n"
    )
    assert obey("/retry", talk, lambda: names).answer
    assert [m["role"] for m in talk.messages] == ["user"]
    obey("/system -", talk, lambda: names)
    assert obey("/model large", talk, lambda: names).words
    assert (talk.model, talk.system) == ("large", "")
    assert "* large" in obey("/model", talk, lambda: names).words
    obey("/new", talk, lambda: names)
    assert not talk.messages
    assert obey("/exit", talk, lambda: names).leave
    assert "/retry" in obey("/help", talk, lambda: names).words


@pytest.mark.parametrize("line", ["/nonsense", "/retry", "/model none", "/save", "/save /no/such/folder/x.md"])
def test_commands_that_can_not_be_done_say_so(line: str) -> None:
    with pytest.raises(UsageError):
        obey(line, Talk("small"), lambda: ["small"])


def test_an_unanswered_question_gives_way_to_the_next() -> None:
    talk = Talk("small")
    talk.said("user", "first")
    talk.said("user", "second")
    assert [m["content"] for m in talk.messages] == ["second"]


# ---- a person at a terminal ----------------------------------------------------------------------


class Terminal:
    """`freehold chat` in a pseudo-terminal: type, and read until something stands there."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "freehold", "chat", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "200"},
            preexec_fn=_own_terminal,
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str) -> None:
        """Reads on until `text` appears after what was awaited before."""
        end_s = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < end_s, f"waited for {text!r}, saw {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    break
        assert text in self.seen, f"waited for {text!r}, saw {self.seen!r}"
        self.seen = self.seen.partition(text)[2]

    def leave(self) -> int:
        """The exit code. Reads to the end: a terminal that nobody reads holds up who writes to it."""
        with contextlib.suppress(OSError):
            while os.read(self.master, 4096):
                pass
        return self.process.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_conversation_in_a_terminal(upstream: Upstream) -> None:
    with Terminal(upstream.url) as terminal:
        terminal.until("small")
        terminal.until("\n> ")
        terminal.type("hi\n")
        terminal.until("Hello [b]you[/b] é.")
        terminal.until("218 tokens/s")
        terminal.until("\n> ")
        terminal.type("one\\\n")
        terminal.until(". ")
        terminal.type("two\n")
        terminal.until("218 tokens/s")
        assert [m["content"] for m in upstream.asked[1]["messages"]] == ["hi", "".join(ANSWER), "one\ntwo"]
        terminal.type("refuse\n")
        terminal.until("temperature is too high.")
        terminal.type("/nonsense\n")
        terminal.until("/help lists the commands.")
        terminal.until("\n> ")
        terminal.type("\x04")
        assert terminal.leave() == 0


HAND_S = 0.5
"""From the prompt to a key: Python's readline misses a signal that comes between its prompt and its wait, until the
next key. No hand is that quick; a busy machine's test is."""


def test_ctrl_c_stops_the_answer_and_a_second_one_leaves(upstream: Upstream) -> None:
    with Terminal(upstream.url) as terminal:
        terminal.until("\n> ")
        terminal.type("hold it\n")
        terminal.until("Hello")
        terminal.type("\x03")
        terminal.until("Stopped.")
        terminal.until("\n> ")
        terminal.type("go on\n")
        terminal.until("218 tokens/s")
        assert [m["role"] for m in upstream.asked[1]["messages"]] == ["user", "assistant", "user"]
        terminal.until("\n> ")
        time.sleep(HAND_S)
        terminal.type("\x03")
        terminal.until("Ctrl-C again leaves.")
        terminal.until("\n> ")
        time.sleep(HAND_S)
        terminal.type("\x03")
        assert terminal.leave() == 130


def test_piped_input_is_one_message(upstream: Upstream) -> None:
    command = [sys.executable, "-m", "freehold", "chat", upstream.url]
    done = subprocess.run(command, input="from a pipe\n", capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "".join(ANSWER) + "\n")
    assert upstream.asked[0]["messages"] == [{"role": "user", "content": "from a pipe"}]
    gone = subprocess.run([*command[:-1], "127.0.0.1:9"], input="hi", capture_output=True, text=True, timeout=30)
    assert gone.returncode == 5
    assert "freehold serve" in gone.stderr
    assert "Traceback" not in gone.stderr
