"""What a server says of itself under load agrees with what its clients saw; each way for a request to end is told."""

from __future__ import annotations

import json
import math
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from freehold.loadtest.arrivals import poisson
from freehold.loadtest.figures import compute
from freehold.loadtest.generator import play
from freehold.loadtest.target import Ask, Target
from freehold.loadtest.trace import read as read_trace
from freehold.telemetry.history import history_path
from freehold.telemetry.history_read import RowFilter, read_rows, read_slots
from server import Server

DOCS = Path(__file__).parents[2] / "docs"
TOKENS = 12
FLAGS = {
    "observe.slo": "p99 e2e < 60s, error rate < 50%",
    "observe.price_per_hour_usd": 3.6,
    "observe.against": "gpt-4o-mini",
    "observe.runaway_tokens": 30,
    "observe.keep_text": "on",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("observed") / "home"
    with Server(home, model="sim:llama-125m-openvino-2core", spec={"max_batch": 8}, flags=FLAGS) as running:
        yield running


def told(server: Server, path: str, **query: object) -> dict[str, Any]:
    reply = httpx.get(f"{server.url}/freehold/{path}", params=query, trust_env=False)  # type: ignore[arg-type]
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def until(true: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + 30.0
    while not (found := true()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return found


def rows(server: Server, count: int = 1, **query: object) -> list[dict[str, Any]]:
    """Rows of the history, once there are so many."""
    found: list[dict[str, Any]] = until(
        lambda: len(data := told(server, "requests", limit=1000, **query)["data"]) >= count and data
    )
    return found


def post(server: Server, path: str = "/generate", **body: object) -> httpx.Response:
    return httpx.post(server.url + path, json={"prompt": "Tell me.", **body}, timeout=60, trust_env=False)


def near(one: float | None, other: float, ms: float = 10.0) -> bool:
    """Within 2 %, after the network's part and what a busy machine adds to it."""
    return one is not None and abs(one - other) <= 0.02 * other + ms


def test_the_server_and_its_clients_agree(server: Server) -> None:
    target = Target(url=server.url, model="tester", timeout_s=60.0, extra={"ignore_eos": True})
    asks = lambda number: Ask(text=f"request {number} " * 8, output_tokens=TOKENS)  # noqa: E731
    times = poisson(15.0, 3.0, seed=1)
    samples = [each for _, some in play(target, times, asks) for each in some]  # type: ignore[arg-type]
    sent = [msgspec.structs.replace(each, intended_s=each.sent_s) for each in samples]
    client = compute(sent)[0].latency_ms
    whole = told(server, "stats", window="1m")
    (name, stats), *others = whole["variants"].items()
    assert not others
    assert name == "tester@llama-125m-openvino-2core/sim"
    history = rows(server, len(samples), outcome="ok")
    assert stats["counts"]["ok"] == len(samples) == len(history) == stats["e2e_ms"]["count"]
    took = sorted(row["delivered_ms"] for row in history)
    for percentile, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        seen_ms = getattr(client["e2e"], percentile)
        assert near(stats["e2e_ms"][percentile], seen_ms)
        assert near(took[math.ceil(share * len(took)) - 1], seen_ms)
        assert stats["ttft_ms"][percentile] <= 1.02 * getattr(client["ttft"], percentile) + 1.0
    assert stats["itl_ms"]["count"] == client["itl"].count == len(samples) * (TOKENS - 1)
    assert near(stats["itl_ms"]["p50"], client["itl"].p50)
    assert near(stats["tpot_ms"]["p50"], client["tpot"].p50)
    assert stats["tokens"]["completion"] == len(samples) * TOKENS
    assert stats["step_ms"]["count"] > 0
    assert stats["batch_mean"] >= 1.0
    assert 0.0 < stats["mbu"] < 2.0
    assert whole["slo"][0]["share_kept"] == 1.0
    assert_metrics_agree(server, stats)


def assert_metrics_agree(server: Server, stats: dict[str, Any]) -> None:
    """Prometheus' p99 lies in the bucket that the p99 of /freehold/stats lies in."""
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    found = re.findall(r'^freehold_request_latency_seconds_bucket\{le="([^"]+)".*\} (\S+)$', text, re.MULTILINE)
    bounds = [(float(le), float(count)) for le, count in found]
    count = stats["e2e_ms"]["count"]
    assert bounds[-1] == (float("inf"), count)
    at = next(i for i, (_, below) in enumerate(bounds) if below >= 0.99 * count)
    assert bounds[at - 1][0] * 0.99 <= stats["e2e_ms"]["p99"] / 1000 <= bounds[at][0] * 1.01
    labels = r'error_type="",gen_ai_operation_name="chat",gen_ai_provider_name="freehold",gen_ai_request_model="tester"'
    assert f"gen_ai_server_request_duration_seconds_count{{{labels}}} {count}" in text


def test_every_metric_is_documented(server: Server) -> None:
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    documented = set(re.findall(r"^\| `(\S+)`", (DOCS / "reference" / "metrics.md").read_text(), re.MULTILINE))
    assert documented - names == set()
    assert {name for name in names - documented if not name.endswith("_created")} == set()


def test_each_hop_is_stamped_in_order(server: Server) -> None:
    reply = post(server, "/v1/completions", max_tokens=3, ignore_eos=True)
    (row,) = rows(server, id=reply.json()["id"])
    hops = [row[f"{hop}_ms"] for hop in ("accepted", "claimed", "first", "last", "delivered")]
    assert hops == sorted(hops)
    assert hops[0] >= 0
    assert (row["route"], row["attempts"], row["completion_tokens"]) == ("/v1/completions", 1, 3)
    assert row["tpot_ms"] == pytest.approx((row["last_ms"] - row["first_ms"]) / 2)
    assert abs(row["received_unix_s"] - time.time()) < 60


def test_a_refusal_has_a_row_and_its_code(server: Server) -> None:
    reply = post(server, max_tokens=10**9)
    assert reply.status_code == 400
    (row,) = rows(server, id=reply.headers["x-request-id"])
    assert (row["outcome"], row["status"], row["code"]) == ("refused", 400, reply.json()["error"]["code"])
    assert row["accepted_ms"] is None


def test_a_client_that_vanishes_cancelled(server: Server) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 500, "stream": True,
                       "ignore_eos": True}).encode()  # fmt: skip
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-request-id: gone\r\ncontent-length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head % len(body) + body)
        connection.recv(1000)
    row = rows(server, outcome="cancelled")[-1]
    assert (row["status"], row["stream"]) == (499, True)
    assert row["first_ms"] is not None
    assert 0 < row["completion_tokens"] < 500


def test_a_deadline_that_passes_is_expired(server: Server) -> None:
    headers = {"x-freehold-deadline-ms": "600"}
    body = {"prompt": "x", "max_tokens": 2000, "mode": "async"}  # it is expected to end sooner than it may
    reply = httpx.post(f"{server.url}/generate", json={**body, "min_tokens": 1000}, headers=headers, trust_env=False)
    if reply.status_code == 202:
        (row,) = rows(server, id=reply.json()["id"])
        assert (row["outcome"], row["code"]) == ("expired", "deadline_passed")
    else:
        (row,) = rows(server, id=reply.headers["x-request-id"])
        assert (row["outcome"], row["code"]) == ("refused", "deadline_unmeetable")


def test_a_background_answer_has_its_row_when_it_ends(server: Server) -> None:
    id = post(server, mode="async", max_tokens=4, ignore_eos=True).json()["id"]
    (row,) = rows(server, id=id)
    assert (row["route"], row["outcome"], row["completion_tokens"]) == ("/generate", "ok", 4)
    assert row["first_ms"] is not None


def test_a_runaway_is_stopped_and_named(server: Server) -> None:
    reply = post(server, ignore_eos=True)
    assert (reply.json()["finish_reason"], reply.json()["usage"]["completion_tokens"]) == ("length", 30)
    row = rows(server, id=reply.json()["id"])[0]
    assert row["runaway"]
    assert "request.runaway" in server.gateway_log()
    (stats,) = told(server, "stats", window="1m")["variants"].values()
    assert stats["runaway"] >= 1


def test_the_history_is_a_trace_that_can_be_replayed(server: Server, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from freehold.cli.app import app

    path = history_path(server.folder, 8000)
    assert path.exists()
    for kind in ("csv", "jsonl"):
        out = tmp_path / f"requests.{kind}"
        ended = CliRunner().invoke(app, ["requests", "--file", str(path), "--since", "1h", f"--{kind}", str(out)])
        assert ended.exit_code == 0, ended.output
        known = [row for row in read_rows(path, RowFilter()) if row.prompt_tokens]
        trace = read_trace(out)
        assert sorted(trace.output_tokens.tolist()) == sorted(row.completion_tokens for row in known)
    shown = CliRunner().invoke(app, ["requests", "--file", str(path), "--slowest", "3", "--json"])
    assert len(json.loads(shown.output)["data"]) == 3
    one = CliRunner().invoke(app, ["requests", "--file", str(path), "--id", known[-1].id, "--json"])
    assert json.loads(one.output)["texts"][0]["answers"]


def test_a_restarted_gateway_remembers(server: Server) -> None:
    path = history_path(server.folder, 8000)
    until(lambda: list(read_slots(path)))
    before = sum(part.ok for slot in read_slots(path) for part in slot.parts.values())
    assert before
    assert server.gateway is not None
    server.gateway.stop()
    ended = sum(part.ok for slot in read_slots(path) for part in slot.parts.values())
    assert ended >= before
    assert server.start_gateway()["state"] == "ready"
    until(
        lambda: sum(each["counts"]["ok"] for each in told(server, "stats", window="1h")["variants"].values()) >= ended
    )
    series = told(server, "series", window="1h")
    assert len(series["begin_unix_s"]) == len(series["queue_depth"]) >= 1
    cost = told(server, "stats", window="1h")["cost"]
    assert cost["against"] == "openai/gpt-4o-mini"
