"""Traces of every format, what is said of bad ones, and what can be made of good ones."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.errors import UsageError
from freehold.loadtest.formats.row import Row
from freehold.loadtest.prompts import Scale, of_length, of_trace
from freehold.loadtest.trace import of_rows, read
from freehold.sample import LoggedRequest

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05.9799600,3180,8\n"
)
MOONCAKE = [
    {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]},
    {"timestamp": 1500, "input_length": 700, "output_length": 6, "hash_ids": [1, 3]},
]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_azure(tmp_path: Path) -> None:
    trace = read(write(tmp_path / "a.csv", AZURE))
    assert trace.at_s.tolist() == pytest.approx([0.0, 2.0])
    assert (trace.input_tokens.tolist(), trace.output_tokens.tolist()) == ([4808, 3180], [10, 8])


def test_mooncake_counts_milliseconds_and_shares_prefixes(tmp_path: Path) -> None:
    trace = read(write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, MOONCAKE)) + "\n"))
    assert trace.at_s.tolist() == [0.0, 1.5]
    ask = of_trace(trace, Scale())
    one, two = ask(0).text.split(), ask(1).text.split()
    assert (len(one), len(two)) == (600, 700)
    assert one[:512] == two[:512]
    assert one[512:516] != two[512:516]
    assert ask(2).text == ask(0).text  # begins again


def test_burstgpt(tmp_path: Path) -> None:
    text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,API log\n"
    trace = read(write(tmp_path / "b.csv", text))
    assert (len(trace), trace.groups) == (1, ("ChatGPT",))


def test_the_request_log_keeps_tenant_priority_and_deadline(tmp_path: Path) -> None:
    line = LoggedRequest(
        arrival_unix_s=1e9, input_tokens=9, output_tokens=3, tenant="t", priority=5, deadline_unix_s=1e9 + 2
    )
    path = tmp_path / "log.jsonl"
    path.write_bytes(msgspec.json.encode(line) + b"\n\n" + msgspec.json.encode(line) + b"\n")
    ask = of_trace(read(path), Scale())(1)
    assert ask.group == "t"
    assert ask.headers == {"x-freehold-priority": "5", "x-freehold-deadline-ms": "2000"}


def test_servegen_draws_requests_from_rates_and_histograms(tmp_path: Path) -> None:
    write(tmp_path / "chunk-0-trace.csv", "0,5.0,1.0,Gamma,1,1\n600,0,1.0,,,\n")
    lengths = {"0": {"input_tokens": "{100: 0.5, 200: 0.5}", "output_tokens": {"7": 1.0}}}
    write(tmp_path / "chunk-0-dataset.json", json.dumps(lengths))
    trace = read(tmp_path)
    assert 2500 < len(trace) < 3500
    assert set(trace.input_tokens.tolist()) == {100, 200}
    assert trace.seconds < 605
    assert read(tmp_path).at_s.tolist() == trace.at_s.tolist()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("empty.csv", "", "is empty"),
        ("head.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "is empty"),
        ("columns.csv", "when,in,out\n1,2,3\n", "azure: TIMESTAMP"),
        ("tokens.csv", AZURE.replace("4808", "many"), "line 2"),
        ("date.csv", AZURE.replace("2023-11-16 18:17:03.97", "yesterday"), "line 2"),
        ("broken.jsonl", "{\n", "line 1"),
        ("ms.jsonl", '{"arrival_unix_s": 1.7e12, "input_tokens": 1, "output_tokens": 1}\n', "milliseconds"),
        ("wrong.jsonl", '{"timestamp": 0, "input_length": "x", "output_length": 1}\n', "line 1"),
    ],
)
def test_what_is_wrong_with_a_trace_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(write(tmp_path / name, text))
    assert said in str(caught.value)


def test_there_is_no_trace() -> None:
    with pytest.raises(UsageError, match="no trace"):
        read(Path("/nowhere.csv"))


def rows(count: int) -> list[Row]:
    return [Row(at_s=0.5 * i, input_tokens=10 + i, output_tokens=i, group=str(i % 3)) for i in range(count)]


def test_operations_give_a_new_trace() -> None:
    trace = of_rows("t", reversed(rows(100)))
    assert trace.per_s == pytest.approx(2.0)
    part = trace.cut(10.0, 5.0)
    assert (len(part), float(part.at_s[0]), int(part.input_tokens[0]), part.groups[0]) == (10, 0.0, 30, "2")
    assert trace.faster(4.0).per_s == pytest.approx(8.0)
    looped = trace.loop(120.0)
    assert (len(looped), int(looped.input_tokens[100])) == (240, 10)
    assert np.allclose(np.diff(looped.at_s), 0.5)
    assert 20 < len(trace.thin(0.5)) < 80
    assert len(trace.synthesise(60.0, 10.0)) == pytest.approx(600, rel=0.2)
    with pytest.raises(UsageError, match="Nothing"):
        trace.cut(1000.0)


def test_prompts_have_their_length_and_a_beginning_of_their_own() -> None:
    ask = of_length(100, 20, Scale(base_tokens=10, tokens_per_word=1.5))
    texts = [ask(number).text.split() for number in range(2000)]
    assert {len(text) for text in texts} == {60}
    assert len({tuple(text[:4]) for text in texts}) == 2000
    shared = of_length(100, 20, Scale(), shared_tokens=40)
    assert shared(1).text.split()[:40] == shared(2).text.split()[:40]
    assert shared(1).text.split()[40:44] != shared(2).text.split()[40:44]
    varied = of_length(100, 20, Scale(), spread=0.5)
    lengths = [len(varied(number).text.split()) for number in range(500)]
    assert 50 <= min(lengths) < 60 < 140 < max(lengths) <= 150


@given(st.integers(8, 4096), st.integers(0, 100))
def test_a_trace_within_a_context_fits_it_and_the_rest_is_untouched(context: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    lengths = dice.integers(1, 3000, (50, 2))
    trace = of_rows("t", [Row(at_s=i, input_tokens=a, output_tokens=b) for i, (a, b) in enumerate(lengths.tolist())])
    inside, share = trace.within(context)
    assert (inside.input_tokens + inside.output_tokens <= context).all()
    assert (inside.input_tokens >= 1).all()
    assert (inside.output_tokens >= 1).all()
    same = (inside.input_tokens == lengths[:, 0]) & (inside.output_tokens == lengths[:, 1])
    assert share == pytest.approx(1 - same.mean())
    fits = (lengths[:, 1] <= 0.9 * context // 2) & (lengths.sum(axis=1) <= int(0.9 * context))
    assert same[fits].all()


@given(st.integers(0, 500), st.floats(0.05, 200.0), st.floats(1.0, 60.0))
def test_a_stretch_has_the_rate_that_was_asked_for(first: int, rate: float, seconds: float) -> None:
    trace = of_rows("t", rows(100))
    at_s = trace.stretch(first, rate, seconds)
    assert len(at_s) == max(1, round(rate * seconds))
    assert at_s[0] == 0.0
    assert (np.diff(at_s) >= 0).all()
    if len(at_s) > 1:
        assert np.diff(at_s).mean() == pytest.approx(1 / rate, rel=0.05)


def test_a_stretch_goes_on_at_the_beginning_and_keeps_its_bursts() -> None:
    burst = of_rows("t", [Row(at_s=float(t), input_tokens=1, output_tokens=1) for t in (0, 0.1, 10, 10.1, 20, 20.1)])
    gaps = np.diff(burst.stretch(4, 2.0, 3.0))
    assert gaps[0] < gaps[1] / 20
    assert gaps[2] < gaps[3] / 20
