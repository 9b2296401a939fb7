"""`knee`, `size` and `scale` against a real server: an answer in time, plain words where there is none."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from served import Served, freehold


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("knee") / "home", "sim:llama-125m-openvino-2core") as running:
        yield running


Told = tuple[int, dict[str, Any], str]
LENGTHS = ("--input-tokens", "16", "--output-tokens", "8")


def ask(server: Served, *more: str) -> Told:
    return told(server, "knee", *LENGTHS, *more)


def told(server: Served, command: str, *more: str) -> Told:
    """(exit status, the JSON object, what was said beside it)."""
    done = freehold(command, server.url, *more, "--json", home=server.home)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "{}"
    return done.returncode, json.loads(last), done.stderr


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten minutes of uneven traffic, a tenth of it far longer than the model's context."""
    dice = random.Random(1)
    at_s, rows = 0.0, ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    while at_s < 600:
        at_s += dice.expovariate(8 if int(at_s) % 10 < 2 else 1)
        prompt = 9000 if dice.random() < 0.1 else dice.randint(5, 30)
        rows.append(f"2023-11-16 18:{int(at_s) // 60:02}:{at_s % 60:010.7f},{prompt},{dice.randint(2, 16)}")
    path = tmp_path_factory.mktemp("trace") / "conv.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_knee_of_a_trace_with_its_samples(server: Served, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    asked = ("--trace", str(trace), "--slo", "p95 e2e < 2s", "--seconds", "6", "--out", str(out))
    code, answer, words = told(server, "knee", *asked)
    assert code == 0, words
    assert "don't fit a context" in words
    assert answer["outcome"] in ("found", "beyond")
    assert answer["recommended_per_s"] == pytest.approx(0.8 * answer["knee_per_s"])
    assert answer["cause"]
    assert answer["rates"]
    kept = json.loads((out / "knee.json").read_text())
    assert kept | answer == kept  # and what a plan needs beside it
    loads = [json.loads(path.read_text())["load"] for path in sorted(out.glob("trial-*/manifest.json"))]
    assert {load["arrivals"] for load in loads if load["loop"] == "open"} == {"replay"}
    trials = sorted(out.glob("trial-*/samples.jsonl"))
    samples = [json.loads(line) for path in trials for line in path.read_text().splitlines()]
    assert not [each for each in samples if each["outcome"] == "failed"]  # cut to the context, none is refused
    assert len({each["input_tokens"] for each in samples if each["outcome"] == "ok"}) > 10
    assert len(trials) >= len(answer["ladder"]) + len(answer["rates"])  # a rung may be cut off
    assert all(path.stat().st_size for path in trials)
    code, answer, _ = told(server, "knee", *asked)
    assert code == 2
    assert "answer in it already" in str(answer)


def test_no_rate_is_an_answer(server: Served) -> None:
    code, told, words = ask(server, "--slo", "p50 e2e < 1ms", "--seconds", "8")
    assert code == 0
    assert told["outcome"] == "none"
    assert "No rate keeps p50 e2e < 1ms" in words


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--slo", "p99 e2e < 5 parsec"), 2, "position 11"),
        (("--slo", "p99 e2e < 1s", "--quick", "--seconds", "9"), 2, "don't go together"),
        (("--slo", "p99 e2e < 1s", "--trace", "none.csv"), 2, "--trace tells rate and lengths already"),
        (("--slo", "p99 e2e < 1s", "--seconds", "9 parsec"), 2, "no length of time"),
    ],
)
def test_wrong_calls_are_told(server: Served, options: tuple[str, ...], code: int, said: str) -> None:
    assert ask(server, *options)[0] == code
    assert said in ask(server, *options)[2]


def test_an_unreachable_server(tmp_path: Path) -> None:
    done = freehold("knee", "http://127.0.0.1:9", "--slo", "p99 e2e < 1s", home=tmp_path)
    assert done.returncode == 5
    assert "Nobody answers" in done.stderr


def test_from_a_trace_to_instances_money_and_a_report(server: Served, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "sized"
    asked = ("--trace", str(trace), "--slo", "p95 e2e < 2s", "--against", "gpt-4o-mini", "--seconds", "5",
             "--hardware", "l4", "--rent")  # fmt: skip
    code, answer, words = told(server, "size", *asked, "--out", str(out))
    assert code == 0, words
    assert answer["knee"]["low"] <= answer["knee"]["rate_per_s"] <= answer["knee"]["high"]
    assert answer["instances"] >= 1
    assert answer["instances_with_spare"] == answer["instances"] + 1
    assert answer["cost_per_successful_request_usd"]["value"] > 0
    assert answer["verdict"] in ("self-host", "keep the API", "too close to call")
    assert 0.05 < answer["cut_share"] < 0.15
    assert "the simulator's own error" in words
    page = (out / "report.html").read_text()
    assert answer["verdict_sentence"].split(":")[0] in page
    for title in ("How many instances", "The traffic", "The money", "Latency against rate", "Where it flips"):
        assert f">{title}</h2>" in page
    assert json.loads((out / "size.json").read_text())["instances"] == answer["instances"]
    assert (out / "knee.json").exists()
    assert list(out.glob("trial-*/samples.jsonl"))


def test_no_size_keeps_what_one_user_alone_breaks(server: Served, trace: Path) -> None:
    code, answer, _ = told(server, "size", "--trace", str(trace), "--slo", "p50 e2e < 1ms", "--seconds", "8",
                           "--set", "hardware_usd=500")  # fmt: skip
    assert code == 2
    assert "No rate keeps p50 e2e < 1ms" in answer["error"]["what"]
    assert "With one user alone 100.0%" in answer["error"]["why"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--slo", "p99 e2e < 5 parsec", "--rate", "3"), "position 11"),
        (("--slo", "p99 e2e < 1s"), "how much traffic"),
        (("--slo", "p99 e2e < 1s", "--trace", "EMPTY"), "is empty"),
        (
            ("--slo", "p99 e2e < 1s", "--rate", "3", "--hardware", "l4", "--rent", "--against", "no-such-api"),
            "no-such-api",
        ),
        (("--slo", "p99 e2e < 1s", "--rate", "3"), "what an instance runs on"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_measured(
    server: Served, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    code, answer, _ = told(server, "size", *(str(empty) if each == "EMPTY" else each for each in options))
    assert code == 2
    assert said in str(answer["error"])


def test_two_servers_against_one(server: Served, tmp_path: Path) -> None:
    """The second is the first by another name: two addresses share one server, so the rest went to it."""
    out, other = tmp_path / "scaled", server.url.replace("127.0.0.1", "localhost")
    done = freehold(
        "scale", server.url, other, *LENGTHS, "--users", "4", "--seconds", "2", "--per-hour", "0.5", "--out", str(out),
        "--json", home=server.home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [(row["kind"], row["instances"], row["users"]) for row in answer["levels"]] == [
        ("horizontal", 1, 4), ("horizontal", 2, 8), ("vertical", 1, 8),
    ]  # fmt: skip
    assert all(row["answers"] > 0 and not row["failed"] for row in answer["levels"])
    assert [row["usd_per_hour"] for row in answer["levels"]] == [0.5, 1.0, 0.5]
    assert answer["efficiency"] < 1.2
    assert {path.name for path in out.glob("level-02/*")} == {"server-1", "server-2"}
    report = freehold("report", str(out), home=server.home)
    assert report.returncode == 0, report.stderr
    assert "Scaling" in (out / "report.html").read_text()


def test_one_and_two_workers_that_it_starts_itself(tmp_path: Path) -> None:
    done = freehold(
        "scale", "sim:starter-openvino-2core", "--workers", "2", *LENGTHS, "--users", "2", "--seconds", "1", "--json",
        home=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [len(row["paces"]) for row in answer["levels"]] == [1, 2, 1]
    assert answer["sentence"].startswith("2 workers answer")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("http://127.0.0.1:9",), "several addresses"),
        (("starter", "--workers", "1"), "nothing to compare"),
        (("starter", "--workers", "two"), "not understood"),
    ],
)
def test_what_cannot_be_scaled(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    done = freehold("scale", *options, home=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
