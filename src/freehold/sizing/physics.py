"""What no software can get around: weights must fit, every token costs arithmetic, every step reads the weights.

Bounds, not predictions: a claim that passes may still be wrong, one that fails is impossible on this hardware. Each
check shows its arithmetic. Formulas: 2 operations a parameter and token (Kaplan et al., arXiv 2001.08361, section 2.1);
a decoding step reads all weights once for the whole batch, and each sequence's keys and values (Pope et al., arXiv
2211.05102).
"""

from __future__ import annotations

import math

from freehold.core import Record
from freehold.errors import UsageError
from freehold.sizing.figure import amount
from freehold.sizing.hardware import Hardware

PRECISIONS = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}


class Model(Record, frozen=True):
    """What of a model matters to physics. Bytes and counts are plain; 0 is not known."""

    parameters: float
    bits: float = 16.0
    """Stored bits a weight."""
    active_parameters: float = 0.0
    """Used for one token, of a mixture of experts; 0: all."""
    kv_bytes_per_token: float = 0.0
    claimed_bytes: float = 0.0
    """What somebody says the weights take."""

    @property
    def weight_bytes(self) -> float:
        return self.parameters * self.bits / 8


class Check(Record, frozen=True):
    name: str
    holds: bool
    arithmetic: str


def weights_check(model: Model) -> Check | None:
    """A claimed size against parameters times bits; None without a claim. 2 % of slack for rounding."""
    if not model.claimed_bytes:
        return None
    table = ", ".join(f"{amount(model.parameters * bits / 8e9)} GB in {name}" for name, bits in PRECISIONS.items())
    told = f"{amount(model.parameters)} parameters x {model.bits:g} bits / 8 = {_gb(model.weight_bytes)}"
    return Check(
        name="size of the weights",
        holds=model.claimed_bytes >= model.weight_bytes * 0.98,
        arithmetic=f"{told}; claimed are {_gb(model.claimed_bytes)}. It takes {table}; keys and values come on top.",
    )


def checks(
    model: Model, hardware: Hardware, rate_per_s: float, input_tokens: float, output_tokens: float
) -> list[Check]:
    """All bounds on `rate_per_s` requests of this length on one instance, in the order a reader asks."""
    found = [weights_check(model), _memory(model, hardware, input_tokens + output_tokens)]
    if rate_per_s:
        found.append(_compute(model, hardware, rate_per_s, input_tokens + output_tokens))
        found.append(_bandwidth(model, hardware, rate_per_s, input_tokens, output_tokens))
    return [check for check in found if check]


def refuse(found: list[Check]) -> None:
    """Raises `UsageError` with the arithmetic if a bound is broken."""
    broken = [check for check in found if not check.holds]
    if broken:
        raise UsageError(
            f"Impossible: {', '.join(check.name for check in broken)}.",
            " ".join(check.arithmetic for check in broken),
            "Correct the rate, the model or the hardware; measure with `freehold knee` instead of claiming.",
        )


def sequences(model: Model, hardware: Hardware, tokens: float) -> float:
    """How many sequences of `tokens` have room beside the weights; infinite where the bytes a token aren't known."""
    room = hardware.memory_bytes - model.weight_bytes
    if room <= 0:
        return 0.0
    return math.floor(room / (model.kv_bytes_per_token * tokens)) if model.kv_bytes_per_token and tokens else math.inf


def _memory(model: Model, hardware: Hardware, tokens: float) -> Check:
    count = sequences(model, hardware, tokens)
    weights = f"{_gb(model.weight_bytes)} of weights ({amount(model.parameters)} x {model.bits:g} bits)"
    told = f"{weights} in {_gb(hardware.memory_bytes)}"
    if count and math.isfinite(count):
        told += f" leave room for {count:.0f} sequences of {tokens:.0f} tokens x {_kb(model.kv_bytes_per_token)}"
    return Check(name="memory", holds=count >= 1, arithmetic=f"{told}.")


def _compute(model: Model, hardware: Hardware, rate_per_s: float, tokens: float) -> Check:
    active = model.active_parameters or model.parameters
    needed = 2 * active * tokens * rate_per_s
    told = f"2 x {amount(active)} parameters x {tokens:.0f} tokens x {rate_per_s:g}/s = {amount(needed / 1e12)} TFLOP/s"
    times, peak = needed / hardware.peak_flops, hardware.peak_flops / 1e12
    of = f"{amount(times)} times the {amount(peak)} that {hardware.label} peaks at"
    return Check(name="arithmetic", holds=needed <= hardware.peak_flops, arithmetic=f"{told}: {of} (16 bit, dense).")


def _bandwidth(
    model: Model, hardware: Hardware, rate_per_s: float, input_tokens: float, output_tokens: float
) -> Check | None:
    """Steps a second times weights, plus the keys and values each new token reads; None if nothing bounds the batch."""
    active = (model.active_parameters or model.parameters) * model.bits / 8
    batch = sequences(model, hardware, input_tokens + output_tokens)
    if math.isinf(batch):
        return None
    steps = rate_per_s * output_tokens / batch if batch else math.inf
    read = rate_per_s * output_tokens * (input_tokens + output_tokens / 2) * model.kv_bytes_per_token
    needed = steps * active + read
    told = f"{amount(rate_per_s * output_tokens)} tokens/s, {batch:.0f} at a time, read {amount(needed / 1e9)} GB/s"
    of = f"{amount(hardware.bandwidth_bytes_per_s / 1e9)} GB/s that {hardware.label} has"
    return Check(name="bandwidth", holds=needed <= hardware.bandwidth_bytes_per_s, arithmetic=f"{told} of the {of}.")


def _gb(size: float) -> str:
    return f"{amount(size / 1e9)} GB"


def _kb(size: float) -> str:
    return f"{amount(size / 1e3)} kB"
