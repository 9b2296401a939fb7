"""Physical ceilings, measured on the machine the benchmark runs on.

Decode: every token of one stream reads all weights, so tokens/s <= bandwidth / bytes a token (bandwidth as plain
copies get it, read plus write). Prefill: two operations a weight and token, so tokens/s <= matrix peak / (2 x
parameters), those of the vocabulary left out. The matrix peaks are MatMuls of the kinds CPU engines use, run by
OpenVINO at 512 x 2048 x 2048, best of the runs.
"""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from freehold.engine.openvino import hush

hush()  # before the library is imported: it would phone home


def matrix_peak_gops(threads: int, weights: Literal["int8", "bf16"], seconds: float) -> float:
    """Best 10^9 operations a second of a MatMul, the way OpenVINO runs a prompt: int8 weights with activations
    quantised on the fly, or everything in bf16 (emulated, and slow, where the processor has no bf16)."""
    import openvino as ov
    from openvino import opset13 as ops

    rows, inner, columns = 512, 2048, 2048
    values = ops.parameter([rows, inner], np.float32)
    random = np.random.default_rng(0)
    properties: dict[str, object] = {"INFERENCE_NUM_THREADS": threads}
    if weights == "int8":
        properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 32
        stored = ops.constant(random.integers(-127, 127, (columns, inner), dtype=np.int8))
        matrix = ops.multiply(ops.convert(stored, np.float32), ops.constant(np.full((columns, 1), 0.01, np.float32)))
    else:
        properties["INFERENCE_PRECISION_HINT"] = "bf16"
        matrix = ops.constant(random.standard_normal((columns, inner), dtype=np.float32))
    model = ov.Model([ops.matmul(values, matrix, False, True)], [values], "peak")
    request = ov.Core().compile_model(model, "CPU", properties).create_infer_request()
    request.set_input_tensor(ov.Tensor(random.standard_normal((rows, inner), dtype=np.float32)))
    request.infer()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        request.infer()
        best = min(best, time.perf_counter() - start)
    return 2 * rows * inner * columns / best / 1e9
