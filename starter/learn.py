"""The training loop: a stream of batches in, a better model out, one progress line now and then.

A phase is a stream that says how far along it is. The learning rate follows that fraction, or the
share of the time limit used if that is further, so a slow machine still ends on a finished schedule.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from starter.chat import PAD, Row
from starter.model import Starter
from starter.optimizer import Average, Optimizer


@dataclass(frozen=True, slots=True)
class Settings:
    """What one phase is trained with. Rates are peaks; `keep` is the average's memory a step."""

    matrix_rate: float
    rate: float
    decay: float = 0.01
    dropout: float = 0.0
    smoothing: float = 0.0
    keep: float = 0.99
    warmup: float = 0.02


@dataclass(frozen=True, slots=True)
class Step:
    """One update: batches with the share of the loss each has, and the fraction of the phase done."""

    parts: Sequence[tuple[float, list[Row]]]
    done: float


def schedule(done: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero; `done` runs from 0 to 1."""
    if done < warmup:
        return max(done, 0.05 * warmup) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def collate(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """Right-padded ids and weights, both (rows, longest)."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [PAD] * (longest - len(row.ids)) for row in rows])
    weights = torch.tensor([row.weights + [0.0] * (longest - len(row.weights)) for row in rows])
    return ids.to(device), weights.to(device)


def loss_of(model: Starter, rows: Sequence[Row], smoothing: float = 0.0) -> Tensor:
    """Weighted mean cross-entropy in nats; the head runs only where a token carries weight."""
    ids, weights = collate(rows, model.cos.device)
    states, targets, weights = model.states(ids[:, :-1]), ids[:, 1:], weights[:, 1:]
    chosen = weights > 0
    losses = F.cross_entropy(
        model.logits(states[chosen]).float(), targets[chosen], reduction="none", label_smoothing=smoothing
    )
    kept = weights[chosen]
    return (losses * kept).sum() / kept.sum()


@torch.no_grad()
def mean_loss(model: Starter, groups: Iterable[list[Row]]) -> float:
    """Mean loss a token over held-out batches; exp of it is the perplexity."""
    model.eval()
    total = count = 0.0
    for rows in groups:
        weight = sum(sum(row.weights[1:]) for row in rows)
        total += float(loss_of(model, rows)) * weight
        count += weight
    return total / max(count, 1.0)


class Progress:
    """Counts tokens and says every so often how it goes, on standard error."""

    def __init__(self, name: str, limit_s: float, every_s: float = 20.0) -> None:
        self.name, self.limit_s, self.every_s = name, limit_s, every_s
        self.started = self.spoken = time.monotonic()
        self.tokens = 0
        self.loss = math.nan

    def used(self) -> float:
        """Share of the time limit gone."""
        return (time.monotonic() - self.started) / self.limit_s

    def note(self, loss: float, tokens: int, done: float) -> None:
        self.tokens += tokens
        self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
        now = time.monotonic()
        if now - self.spoken < self.every_s or done <= 0:
            return
        self.spoken = now
        spent_s = now - self.started
        left_s = min(spent_s / done - spent_s, self.limit_s - spent_s)
        print(
            f"{self.name}: {100 * done:.0f} % loss {self.loss:.3f} {self.tokens / spent_s:,.0f} tokens/s "
            f"{left_s / 60:.1f} minutes left",
            file=sys.stderr,
            flush=True,
        )


def learn(model: Starter, steps: Iterable[Step], settings: Settings, progress: Progress) -> None:
    """Run a phase and leave the averaged weights in the model."""
    optimizer = Optimizer(model, settings.matrix_rate, settings.rate, settings.decay)
    average = Average(model, settings.keep)
    model.dropout = settings.dropout
    for step in steps:
        done = max(step.done, progress.used())
        if done >= 1:
            break
        model.train()
        first = 0.0
        for share, rows in step.parts:
            with torch.autocast("cuda", torch.bfloat16, enabled=model.cos.is_cuda):
                loss = share * loss_of(model, rows, settings.smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            first = first or loss.item() / share
        optimizer.step(schedule(done, settings.warmup))
        average.update(model)
        progress.note(first, sum(len(row.ids) for _, rows in step.parts for row in rows), done)
    average.copy_to(model)
    model.eval()
