"""Webhooks to a real receiver, checked by OpenAI's own client: signed, tried again, and not lost with their gateway."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai

from server import Server, openai_client
from stream import until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OPEN = {"server.webhook_private": "on"}


class Receiver:
    """Answers with each of `statuses` in turn, then 204."""

    def __init__(self, *statuses: int) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        statuses_left = list(statuses)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(statuses_left.pop(0) if statuses_left else 204)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_port}/hook?token=between-us"

    def unwrapped(self, number: int = -1) -> Any:
        headers, body = self.got[number]
        return openai.OpenAI(api_key="none").webhooks.unwrap(body, headers, secret=SECRET)


@contextmanager
def receiving(*statuses: int) -> Iterator[Receiver]:
    receiver = Receiver(*statuses)
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


def test_a_response_tells_its_end_signed_and_again_until_it_is_heard(tmp_path: Path) -> None:
    with receiving(500, 302) as receiver, Server(tmp_path, flags=OPEN) as server, openai_client(server) as client:
        hook = {"webhook": {"url": receiver.url, "secret": SECRET}}
        made = client.responses.create(model="tester", input="Hello.", background=True, extra_body=hook)
        until(lambda: len(receiver.got) == 3)
        event = receiver.unwrapped()
        assert (event.type, event.data.id) == ("response.completed", made.id)
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        assert receiver.got[0][0]["host"].startswith("localhost:")
        assert client.responses.retrieve(event.data.id).status == "completed"
        log = server.gateway_log()
        assert "webhook.failed" in log
        assert SECRET not in log
        assert "between-us" not in log


def test_a_webhook_outlives_its_gateway(tmp_path: Path) -> None:
    flags = {**OPEN, "server.webhook_secret": SECRET}
    with receiving() as receiver, Server(tmp_path, model="sim:llama-125m-openvino-2core", flags=flags) as server:
        body = {"prompt": "Hello", "mode": "async", "max_tokens": 60, "ignore_eos": True}
        body |= {"webhook": {"url": receiver.url}}
        first = httpx.post(f"{server.url}/generate", json=body, headers={"idempotency-key": "k"}, trust_env=False)
        again = httpx.post(f"{server.url}/generate", json=body, headers={"idempotency-key": "k"}, trust_env=False)
        assert again.json()["id"] == first.json()["id"]
        assert server.gateway is not None
        server.gateway.kill()
        server.start_gateway()
        until(lambda: bool(receiver.got))
        headers, text = receiver.got[0]
        assert headers["webhook-id"] == f"msg_{first.json()['id']}"
        assert b'"generation.completed"' in text


def test_a_batch_tells_its_end(tmp_path: Path) -> None:
    line = b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "One"}}'
    with receiving() as receiver, Server(tmp_path, flags=OPEN) as server, openai_client(server) as client:
        file = client.files.create(file=("asks.jsonl", line), purpose="batch")
        hook = {"webhook": {"url": receiver.url, "secret": SECRET}}
        made = client.batches.create(
            input_file_id=file.id, endpoint="/v1/completions", completion_window="24h", extra_body=hook
        )
        until(lambda: bool(receiver.got))
        event = receiver.unwrapped()
        assert (event.type, event.data.id) == ("batch.completed", made.id)


def test_what_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
        asked: dict[str, Any] = {"prompt": "Hello", "mode": "async"}
        for webhook, more, param in [
            ({"url": "http://127.0.0.1:9/", "secret": SECRET}, {}, "webhook.url"),
            ({"url": "http://169.254.169.254/latest", "secret": SECRET}, {}, "webhook.url"),
            ({"url": "https://8.8.8.8/"}, {}, "webhook.secret"),
            ({"url": "https://8.8.8.8/", "secret": SECRET}, {"mode": "sync"}, "webhook"),
        ]:
            reply = http.post("/generate", json=asked | {"webhook": webhook} | more)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, param), reply.text
        body = {"input": "Hello", "webhook": {"url": "https://8.8.8.8/", "secret": SECRET}}
        assert http.post("/v1/responses", json=body).json()["error"]["param"] == "webhook"
        assert http.get("/freehold/jobs").json()["jobs"] == []
