"""Joined matrices give what the separate ones gave, and what isn't stored as expected stays as it is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from freehold.engine.openvino import hush
from freehold.engine.openvino.slim import join

hush()
WIDE, GROUP = 64, 32


def stored(rows: int, seed: int, middle: int = 128):  # type: ignore[no-untyped-def]
    """A matrix the way the library writes one of Q8_0."""
    from openvino import opset13 as ops

    dice = np.random.default_rng(seed)
    bytes_ = dice.integers(0, 256, (rows, WIDE // GROUP, GROUP), dtype=np.uint8)
    middles = np.full((rows, WIDE // GROUP, 1), middle, np.uint8)
    scales = dice.random((rows, WIDE // GROUP, 1)).astype(np.float16)
    shifted = ops.subtract(
        ops.convert(ops.constant(bytes_), "f16"),
        ops.convert(ops.constant(middles), "f16"),
    )
    grouped = ops.multiply(shifted, ops.constant(scales))
    return ops.convert(ops.reshape(grouped, ops.constant(np.array([rows, WIDE], np.int64)), False), "f32")


def model(middle: int = 128):  # type: ignore[no-untyped-def]
    """Two matrices beside each other, added row by row, and a third that makes the logits."""
    import openvino
    from openvino import opset13 as ops

    values = ops.parameter([1, -1, WIDE], np.float32)
    first, second = (ops.matmul(values, stored(WIDE, seed, middle), False, True) for seed in (1, 2))
    logits = ops.matmul(ops.add(first, ops.tanh(second)), stored(8, 3, middle), False, True)
    return openvino.Model([logits], [values], "small")


def outcome(of) -> np.ndarray:  # type: ignore[no-untyped-def, type-arg]
    import openvino

    values = np.random.default_rng(4).standard_normal((1, 5, WIDE)).astype(np.float32)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.array(openvino.Core().compile_model(of, "CPU", exact)([values])[0])


def kinds(of) -> Counter[str]:  # type: ignore[no-untyped-def]
    return Counter(node.get_type_name() for node in of.get_ops())


def test_joining_keeps_the_values() -> None:
    before, after = model(), model()
    assert join(after) == 1
    assert (kinds(before)["MatMul"], kinds(after)["MatMul"]) == (3, 2)
    assert kinds(after)["Subtract"] == 1, "the logits' matrix stays as it is"
    assert outcome(after) == pytest.approx(outcome(before), rel=1e-4, abs=1e-2)


def test_another_middle_stays() -> None:
    untouched = model(middle=127)
    assert join(untouched) == 0
    assert kinds(untouched) == kinds(model(middle=127))
