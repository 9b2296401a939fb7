"""ServeGen: a folder of clients, each with its rate and burstiness over time and histograms of lengths.

`chunk-N-trace.csv` has start (s), rate (requests/s), coefficient of variation, distribution, two parameters a line;
`chunk-N-dataset.json` has, for each start, histograms of input and output tokens. It holds no requests: they are drawn,
gap by gap, with the rate and variation of each window. Source: github.com/alibaba/ServeGen (Xiang et al., NSDI 2026).
"""

from __future__ import annotations

import ast
import csv
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from freehold.errors import UsageError
from freehold.loadtest.arrivals import dice
from freehold.loadtest.formats.row import Row, bad_line

WINDOW_S = 600.0
"""How long a client's last window lasts; the others last until the next begins."""
Histogram = tuple[np.ndarray, np.ndarray]


def read(path: Path, seed: int = 0) -> Iterator[Row]:
    """Requests of all clients in the folder."""
    traces = sorted(path.glob("chunk-*-trace.csv"))
    if not traces:
        raise UsageError(f"{path} is no ServeGen folder: it has no chunk-*-trace.csv.")
    for number, trace in enumerate(traces):
        yield from _client(trace, dice(seed, "arrivals", number + 1))


def _client(trace: Path, chance: np.random.Generator) -> Iterator[Row]:
    name = trace.name.removesuffix("-trace.csv")
    lengths = _lengths(trace.with_name(f"{name}-dataset.json"))
    starts = sorted(lengths)
    windows = _windows(trace)
    ends_s = [window[0] for window in windows[1:]] + [windows[-1][0] + WINDOW_S]
    for (start_s, rate, variation), end_s in zip(windows, ends_s, strict=True):
        if rate <= 0:
            continue
        shape = 1.0 / max(variation, 1e-3) ** 2
        at_s = start_s + chance.gamma(shape, 1.0 / (rate * shape)) * chance.random()
        inputs, outputs = lengths[starts[max(0, bisect_right(starts, start_s) - 1)]]
        while at_s < end_s:
            yield Row(
                at_s=at_s,
                input_tokens=int(chance.choice(inputs[0], p=inputs[1])),
                output_tokens=int(chance.choice(outputs[0], p=outputs[1])),
                group=name,
            )
            at_s += chance.gamma(shape, 1.0 / (rate * shape))


def _windows(trace: Path) -> list[tuple[float, float, float]]:
    windows = []
    with trace.open(newline="") as file:
        for number, values in enumerate(csv.reader(file), 1):
            try:
                start_s, rate, variation = (float(value) for value in values[:3])
            except ValueError as error:
                raise bad_line(trace, number, "expected start, rate, coefficient of variation.") from error
            windows.append((start_s, rate, variation))
    if not windows:
        raise UsageError(f"{trace} is empty.")
    return windows


def _lengths(dataset: Path) -> dict[float, tuple[Histogram, Histogram]]:
    """Histograms of input and output tokens by the window's start."""
    try:
        told = msgspec.json.decode(dataset.read_bytes(), type=dict[str, dict[str, object]])
        return {
            float(start): (_histogram(fields["input_tokens"]), _histogram(fields["output_tokens"]))
            for start, fields in told.items()
            if fields.get("input_tokens") and fields.get("output_tokens")
        }
    except (OSError, ValueError, SyntaxError, KeyError, msgspec.DecodeError) as error:
        raise UsageError(
            f"{dataset} can't be read: {error}.",
            next="Expected: histograms input_tokens, output_tokens for each start.",
        ) from error


def _histogram(told: object) -> Histogram:
    """From `{tokens: share}`, written as JSON or as Python's text of it."""
    counts = ast.literal_eval(told) if isinstance(told, str) else told
    if not isinstance(counts, dict) or not counts:
        raise ValueError("a histogram is empty")
    shares = np.array([float(share) for share in counts.values()])
    return np.array([int(float(tokens)) for tokens in counts]), shares / shares.sum()
