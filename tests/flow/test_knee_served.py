"""`freehold knee` against a real server: an answer in time, plain words where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from served import Served, freehold


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("knee") / "home", "sim:llama-125m-openvino-2core") as running:
        yield running


def ask(server: Served, *more: str) -> tuple[int, dict[str, object], str]:
    lengths = ("--input-tokens", "16", "--output-tokens", "8")
    done = freehold("knee", server.url, *lengths, *more, "--json", home=server.home)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "{}"
    return done.returncode, json.loads(last), done.stderr


def test_an_answer_with_its_samples(server: Served, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    code, told, words = ask(server, "--slo", "p95 e2e < 2s", "--seconds", "12", "--out", str(out))
    assert code == 0, words
    assert told["outcome"] in ("found", "beyond")
    assert isinstance(told["knee_per_s"], float)
    assert told["recommended_per_s"] == pytest.approx(0.8 * told["knee_per_s"])
    assert told["cause"]
    assert told["rates"]
    kept = json.loads((out / "knee.json").read_text())
    assert kept | told == kept  # and what a plan needs beside it
    trials = sorted(out.glob("trial-*/samples.jsonl"))
    assert len(trials) >= len(told["ladder"]) + len(told["rates"])  # type: ignore[arg-type]  # a rung may be cut off
    assert all(path.stat().st_size for path in trials)
    code, told, _ = ask(server, "--slo", "p95 e2e < 2s", "--out", str(out))
    assert code == 2
    assert "answer in it already" in str(told)


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
        (("--slo", "p99 e2e < 1s", "--trace", "none.csv"), 2, "--trace has lengths already"),
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
