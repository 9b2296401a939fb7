"""Muon for the matrices inside the layers, AdamW for the rest.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) makes each matrix update
near-orthogonal; here it reaches a given loss in clearly fewer tokens than AdamW alone. Written out
because torch's own runs its iteration in bfloat16, which CPUs without that format only emulate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Newton-Schulz iteration: pushes every singular value towards 1. Coefficients from the Muon post."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: Tensor = x if wide else x.T
    return out


class Muon:
    """Momentum, then an orthogonal step of size `rate`; matrices only."""

    def __init__(self, weights: list[nn.Parameter], momentum: float = 0.95) -> None:
        self.weights = weights
        self.momentum = momentum
        self.velocity = [torch.zeros_like(weight) for weight in weights]

    @torch.no_grad()
    def step(self, rate: float, decay: float) -> None:
        for weight, velocity in zip(self.weights, self.velocity, strict=True):
            if weight.grad is None:
                continue
            velocity.lerp_(weight.grad, 1 - self.momentum)
            update = orthogonalise(weight.grad.lerp(velocity, self.momentum))
            scale = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
            weight.mul_(1 - rate * decay).add_(update, alpha=-rate * scale)


class Optimizer:
    """Both optimizers behind one `step`; rates are peaks, scaled by the schedule's factor."""

    def __init__(self, model: nn.Module, matrix_rate: float, rate: float, decay: float) -> None:
        named = list(model.named_parameters())
        inner = [w for n, w in named if w.ndim == 2 and ".layers." in n]
        rest = [w for n, w in named if not (w.ndim == 2 and ".layers." in n)]
        self.muon = Muon(inner)
        self.adam = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.matrix_rate, self.rate, self.decay = matrix_rate, rate, decay

    def step(self, factor: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = self.rate * factor
        self.adam.step()
        self.muon.step(self.matrix_rate * factor, self.decay)
        self.adam.zero_grad(set_to_none=True)
        for weight in self.muon.weights:
            weight.grad = None


class Average:
    """Exponential moving average of the weights; what is shipped, because it scores a little higher."""

    def __init__(self, model: nn.Module, keep: float) -> None:
        self.keep = keep
        self.weights = {n: w.detach().clone() for n, w in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, weight in model.named_parameters():
            self.weights[name].lerp_(weight, 1 - self.keep)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        for name, weight in model.named_parameters():
            weight.copy_(self.weights[name])
