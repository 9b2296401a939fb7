"""Traces arrive at a real OTLP receiver, one tree a request, in the client's own trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.telemetry import traces as module
from freehold.telemetry.row import Row
from freehold.telemetry.traces import Traces
from freehold.tracing import onward, parse, span_of

HEADER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ROW = Row(
    id="chatcmpl-1", route="/v1/chat/completions", model="m", variant="m/q8_0/sim", tenant="local", outcome="ok",
    received_unix_s=1_700_000_000.0, status=200, worker="worker-1", accepted_ms=1.0, claimed_ms=3.0, first_ms=20.0,
    last_ms=90.0, delivered_ms=91.0, attempts=1, prompt_tokens=10, completion_tokens=8, traceparent=HEADER,
)  # fmt: skip


@contextmanager
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """A collector's OTLP/HTTP port: keeps the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_request_is_one_tree_in_its_clients_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    monkeypatch.setattr(module, "EVERY_S", 0.01)
    with receiver() as (url, bodies):
        traces = Traces(url)
        traces.add(ROW)
        traces.add(
            Row(**{name: getattr(ROW, name) for name in ROW.__struct_fields__} | {"traceparent": HEADER[:-1] + "0"})
        )
        traces.close()
    (body,) = bodies
    told = ExportTraceServiceRequest()
    told.ParseFromString(body)
    spans = [span for resource in told.resource_spans for scope in resource.scope_spans for span in scope.spans]
    root, *children = sorted(spans, key=lambda span: span.name != "chat m")
    assert {span.trace_id.hex() for span in spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    assert root.span_id.hex() == span_of("chatcmpl-1")
    assert [child.name for child in children] == ["accept", "queue", "prefill", "decode", "deliver"]
    assert {child.parent_span_id for child in children} == {root.span_id}
    assert children[0].start_time_unix_nano == root.start_time_unix_nano
    assert children[-1].end_time_unix_nano == root.end_time_unix_nano
    for before, after in pairwise(children):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    attributes = {each.key: each.value for each in root.attributes}
    assert attributes["gen_ai.usage.output_tokens"].int_value == 8
    assert attributes["gen_ai.request.model"].string_value == "m"


def test_a_collector_that_is_away_costs_only_its_spans(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    monkeypatch.setattr(module, "EXPORT_S", 0.2)
    with receiver() as (url, _):
        pass
    traces = Traces(url)
    traces.add(ROW)
    traces.close()
    assert traces.lost == 1
    assert "traces.failed" in [record.getMessage() for record in caplog.records]


@given(
    header=st.text(max_size=60) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True)
)
def test_whatever_a_header_is_it_does_no_harm(header: str) -> None:
    parent, told = parse(header), onward(header, "id")
    assert (parent is None) == (told == "")
    if parent is not None:
        again = parse(told)
        assert again is not None
        assert (again.trace_id, again.sampled, again.span_id) == (parent.trace_id, parent.sampled, span_of("id"))


@pytest.mark.parametrize("header", ["", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" + HEADER[2:], HEADER.upper()])
def test_wrong_headers_are_ignored(header: str) -> None:
    assert parse(header) is None
