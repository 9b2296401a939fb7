"""The matrix peak of this machine: the best rate at which OpenVINO multiplies, the ceiling of reading prompts.

Two operations a weight and token, so a prompt can't be read faster than peak / (2 x parameters) tokens a second, those
of the vocabulary left out. Measured on MatMuls of 512 x 2048 x 2048, the way the engine runs a prompt.
"""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from freehold.engine.openvino.quiet import hush

ROWS, INNER, COLUMNS = 512, 2048, 2048


def matrix_peak_gops(threads: int, weights: Literal["int8", "bf16"], seconds: float) -> float:
    """Best 10^9 operations a second: int8 weights with activations quantised on the fly, or everything in bf16
    (emulated, and slow, where the processor has no bf16)."""
    hush()  # before the library is imported: it would phone home
    import openvino as ov
    from openvino import opset13 as ops

    values = ops.parameter([ROWS, INNER], np.float32)
    random = np.random.default_rng(0)
    properties: dict[str, object] = {"INFERENCE_NUM_THREADS": threads}
    if weights == "int8":
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 32
        stored = ops.constant(random.integers(-127, 127, (COLUMNS, INNER), dtype=np.int8))
        matrix = ops.multiply(ops.convert(stored, np.float32), ops.constant(np.full((COLUMNS, 1), 0.01, np.float32)))
    else:
        properties["INFERENCE_PRECISION_HINT"] = "bf16"
        matrix = ops.constant(random.standard_normal((COLUMNS, INNER), dtype=np.float32))
    model = ov.Model([ops.matmul(values, matrix, False, True)], [values], "peak")
    request = ov.Core().compile_model(model, "CPU", properties).create_infer_request()
    request.set_input_tensor(ov.Tensor(random.standard_normal((ROWS, INNER), dtype=np.float32)))
    request.infer()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        request.infer()
        best = min(best, time.perf_counter() - start)
    return 2 * ROWS * INNER * COLUMNS / best / 1e9
