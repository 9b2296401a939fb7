"""Folders of measurements made up for the tests of the report: a queue of one server, its knee, a sweep."""

from __future__ import annotations

import json
import random
from pathlib import Path

KNEE_RATES = (0.25, 0.5, 0.7, 0.85, 0.95, 1.0, 1.08)


def make(
    folder: Path, *, service_s: float = 0.16, seed: int = 1, requests: int = 1200, rate_per_s: float = 4.0
) -> Path:
    """A run of `requests` Poisson arrivals; 1 % fail."""
    folder.mkdir(parents=True)
    dice, now, free = random.Random(seed), 0.0, 0.0
    with (folder / "samples.jsonl").open("w") as file:
        for number in range(requests):
            now += dice.expovariate(rate_per_s)
            free = max(free, now) + dice.expovariate(1 / service_s)
            sample = {"number": number, "intended_s": now, "sent_s": now, "end_s": free, "outcome": "ok"}
            sample |= {"first_s": now + (free - now) / 3} if dice.random() > 0.01 else {"outcome": "failed"}
            file.write(json.dumps(sample) + "\n")
    command = f"freehold load http://127.0.0.1:8000 --rate {rate_per_s:g}"
    manifest = {"kind": "load", "command": command, "seed": seed, "load": {"arrivals": "poisson"}, "seconds": now}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    knee = 0.8 / service_s
    slo = "p99 e2e < 500ms"
    capacity = {"rate_per_s": knee, "low": knee * 0.93, "high": knee * 1.06, "slo": slo, "input_tokens": 256}
    capacity |= {"output_tokens": 128, "success_share": 0.99, "source": f"freehold knee URL --slo '{slo}'"}
    told = {
        "capacity": capacity, "binding": slo, "recommended_per_s": knee * 0.8, "cause": {"words": "Requests wait."},
        "rates": [rate_of(knee * x, 60 / (1.1 - x)) for x in KNEE_RATES],
    }  # fmt: skip
    (folder / "knee.json").write_text(json.dumps(told))
    levels = [
        {"streams": b, "tokens_per_s": 400 * b / (1 + b / 12), "step_ms_p50": 20 + b, "step_ms_p99": 25 + b,
         "memory_bytes": 1 << 30}
        for b in (1, 2, 4, 8, 16, 32)
    ]  # fmt: skip
    swept = {"levels": levels, "sweet": {"streams": 16, "reason": "Memory bandwidth: it is used up."}}
    swept |= {"fit": {"error": 0.02}, "command": "freehold sweep --out DIR"}
    (folder / "sweep.json").write_text(json.dumps(swept))
    return folder


def rate_of(per_s: float, p50_ms: float) -> dict[str, object]:
    """One rate as `freehold knee` tells it."""
    spread = {name: {"value": p50_ms * times} for name, times in (("p50", 1.0), ("p95", 1.5), ("p99", 2.0))}
    return {"row": {"rate_per_s": per_s, "seconds": 60.0, "latencies": {"e2e": spread}}, "verdict": "pass"}


def with_fleet(folder: Path) -> Path:
    """What `freehold size` and `freehold scale` leave there: three instances hold, two workers bring 1.7 times one."""
    slo = "p99 e2e < 500ms"
    tried = [(1, 0.8), (2, 0.12), (3, 0.006), (4, 0.0)]
    sized = {
        "sentence": "3 instances would hold this SLO on this traffic, 4 with a spare.", "instances": 3,
        "cut": "5.0% of the requests of conv.csv were cut.", "cut_share": 0.05, "instances_with_spare": 4,
        "erlang_c_instances": 3, "requests_played": 1200, "mean_requests_per_s": 9.0, "peak_requests_per_s": 12.0,
        "utilisation_mean": 0.6, "utilisation_peak": 0.8, "simulated_capacity_per_s": 5.2, "simulation_error": 0.04,
        "law_error": 0.03, "law_source": "4096 steps that URL logged", "capacity_per_instance": {"rate_per_s": 5.0},
        "tried": [
            {"instances": n, "kept": [{"objective": slo, "allowed": 0.01, "missed": missed}]} for n, missed in tried
        ],
        "per_minute": [[i + 0.5, 8 + (i % 5)] for i in range(30)], "command": "freehold size URL --trace conv.csv",
    }  # fmt: skip
    (folder / "size.json").write_text(json.dumps(sized))
    rows = [("horizontal", 1, 8, 50.0, 1.0), ("horizontal", 2, 16, 85.0, 0.85), ("vertical", 1, 16, 62.0, None)]
    levels = [
        {"kind": kind, "instances": n, "users": users, "per_s": per_s, "low": per_s * 0.95, "high": per_s * 1.05,
         "tokens_per_s": per_s * 64, "p50_ms": 140.0, "p99_ms": 200.0, "usd_per_million_tokens": 0.03,
         "scaled": share and {"efficiency": share, "low": share - 0.05, "high": share + 0.05}}
        for kind, n, users, per_s, share in rows
    ]  # fmt: skip
    scaled = {"sentence": "2 workers answer 1.70 times as much as 1.", "unit": "workers", "levels": levels}
    scaled |= {"lost": {"routing": 0.1, "hardware": 0.05, "client": 0.0}, "command": "freehold scale starter"}
    (folder / "scale.json").write_text(json.dumps(scaled))
    return folder
