"""Makes a converted model smaller as a graph: the library reads every matrix of a GGUF for itself.

Matrices that multiply the same input (query, key and value; gate and up) become one, and 8-bit weights with the zero
point in the middle become signed ones without it. The weights are the same to the last bit. OpenVINO compiles at
every start, in passes over all nodes, so that takes about a fifth less time. What isn't of the expected shape stays.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from openvino import Model, Node

_STORED = ("Convert", "Reshape", "Multiply", "Subtract", "Convert", "Constant")
"""From a matrix product up to its stored bytes: how the library writes one of Q8_0."""
_MIDDLE = 128


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of 8-bit weights in groups, as they are stored: (rows, groups, group), and a scale a group."""

    product: Node
    signed: NDArray[np.int8]
    scales: NDArray[np.float16]


def slim(folder: Path) -> None:
    """Rewrite the IR in `folder`."""
    import openvino

    path = folder / "openvino_model.xml"
    model = openvino.Core().read_model(path)
    if join(model):
        small = folder / "slim.xml"
        openvino.serialize(model, small, small.with_suffix(".bin"))
        del model  # it maps the file that is replaced
        small.with_suffix(".bin").replace(path.with_suffix(".bin"))
        small.replace(path)


def join(model: Model) -> int:
    """Join the matrices of `model` that can be; how many products of one or several stand there now."""
    groups: dict[tuple[str, int], list[Matrix]] = defaultdict(list)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and (matrix := _matrix(node)) is not None:
            source = node.input_value(0)
            groups[source.get_node().get_friendly_name(), source.get_index()].append(matrix)
    for matrices in groups.values():
        _replace(matrices)
    model.validate_nodes_and_infer_types()
    return len(groups)


def _matrix(product: Node) -> Matrix | None:
    """The right side of `product`, if it is stored as expected."""
    told = product.get_attributes()
    if told["transpose_a"] or not told["transpose_b"]:
        return None
    if any(reader.get_node().get_type_name() == "Result" for reader in product.output(0).get_target_inputs()):
        return None  # the logits': the bytes may be the embedding's too, and are kept once
    above = [product.input_value(1).get_node()]
    for kind in _STORED:
        if above[-1].get_type_name() != kind:
            return None
        if kind != "Constant":
            above.append(above[-1].input_value(0).get_node())
    scales = above[2].input_value(1).get_node()
    middle = above[3].input_value(1).get_node().input_value(0).get_node()
    if scales.get_type_name() != "Constant" or middle.get_type_name() != "Constant":
        return None
    stored: NDArray[Any] = above[-1].data
    if stored.dtype != np.uint8 or stored.ndim != 3 or not (middle.data == _MIDDLE).all():
        return None
    return Matrix(product, (stored ^ _MIDDLE).view(np.int8), scales.data)


def _replace(matrices: list[Matrix]) -> None:
    """One product in place of those of `matrices`, which have the same left side."""
    from openvino import opset13 as ops

    signed = np.concatenate([matrix.signed for matrix in matrices])
    scales = np.concatenate([matrix.scales for matrix in matrices])
    shape = np.array([signed.shape[0], signed.shape[1] * signed.shape[2]], np.int64)
    grouped = ops.multiply(ops.convert(ops.constant(signed), "f16"), ops.constant(scales))
    weights = ops.convert(ops.reshape(grouped, ops.constant(shape), False), "f32")
    product = ops.matmul(matrices[0].product.input_value(0), weights, False, True)
    outputs = product.outputs()
    if len(matrices) > 1:
        rows = np.array([matrix.signed.shape[0] for matrix in matrices], np.int64)
        outputs = ops.variadic_split(product, ops.constant(np.int64(-1)), ops.constant(rows)).outputs()
    for matrix, output in zip(matrices, outputs, strict=True):
        matrix.product.output(0).replace(output)
