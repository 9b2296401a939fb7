"""A Llama small enough to read: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied head.

Every parameter carries the name that transformers' LlamaForCausalLM gives it, so `state_dict()` is the
checkpoint. Sequences are padded on the right, where causal attention never looks, so no mask is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model. Row lengths are multiples of 256 so that K-quants fit."""

    vocab: int = 4096
    hidden: int = 256
    ffn: int = 768
    layers: int = 5
    heads: int = 8
    kv_heads: int = 2
    context: int = 1024
    theta: float = 10_000.0
    eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads


TINY = Shape(hidden=64, ffn=128, layers=2, heads=4, kv_heads=2)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_size = shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv_size, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv_size, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        split = (batch, length, -1, self.shape.head_dim)
        query = rotate(self.q_proj(x).view(split).transpose(1, 2), cos, sin)
        key = rotate(self.k_proj(x).view(split).transpose(1, 2), cos, sin)
        value = self.v_proj(x).view(split).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out


class MLP(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden, shape.eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, dropout: float) -> Tensor:
        x = x + F.dropout(self.self_attn(self.input_layernorm(x), cos, sin), dropout, self.training)
        return x + F.dropout(self.mlp(self.post_attention_layernorm(x)), dropout, self.training)


class Body(nn.Module):
    """Embeddings, layers and the last norm: token ids (batch, length) to states (batch, length, hidden)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden, shape.eps)

    def forward(self, ids: Tensor, cos: Tensor, sin: Tensor, dropout: float) -> Tensor:
        x = F.dropout(self.embed_tokens(ids), dropout, self.training)
        for layer in self.layers:
            x = layer(x, cos, sin, dropout)
        out: Tensor = self.norm(x)
        return out


class Starter(nn.Module):
    """The whole model. `dropout` is set by the trainer and acts only in training mode."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = 0.0
        self.model = Body(shape)
        cos, sin = rotary_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                # The two matrices that write into the residual start smaller, as in GPT-2.
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * shape.layers) ** 0.5 if last else 0.02)

    def states(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        out: Tensor = self.model(ids, self.cos[:length], self.sin[:length], self.dropout)
        return out

    def logits(self, states: Tensor) -> Tensor:
        """Scores over the vocabulary; the head is the embedding table itself."""
        return F.linear(states, self.model.embed_tokens.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(self.states(ids))


def rotary_tables(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines (context, head_dim), in the half-split layout that transformers uses."""
    steps = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = torch.outer(torch.arange(shape.context, dtype=torch.float32), shape.theta**-steps)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + half) of a head by its position's angle."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


@torch.no_grad()
def generate(model: Starter, ids: list[int], limit: int, end: int) -> list[int]:
    """Greedy continuation without a cache: slow, and plainly right; engines are compared with it."""
    model.eval()
    out: list[int] = []
    while len(out) < limit and len(ids) + len(out) < model.shape.context:
        window = torch.tensor([ids + out], device=model.cos.device)
        token = int(model.logits(model.states(window)[:, -1]).argmax())
        if token == end:
            break
        out.append(token)
    return out
