"""A residual network of random weights of any size, its weights beside the graph: for what memory costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


def write(folder: Path, *, width: int, layers: int, scale: float = 1.0) -> str:
    """Write `layers` blocks (norm, up, ReLU, down, skip) of 32·width² bytes each.

    Args:
        folder: new.
        width: of the residual stream; the hidden layer is four times as wide.
        layers: blocks.
        scale: of the last block's norm, to plant a fault.
    Returns:
        reference of the package.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    weights: list[TensorProto] = []
    nodes = []
    with (folder / "weights.bin").open("wb") as file:

        def weight(name: str, value: np.ndarray) -> str:
            tensor = TensorProto(name=name, data_type=1, dims=value.shape, data_location=TensorProto.EXTERNAL)
            for key, text in (("location", "weights.bin"), ("offset", file.tell()), ("length", value.nbytes)):
                tensor.external_data.add(key=key, value=str(text))
            file.write(value.tobytes())
            weights.append(tensor)
            return name

        x, gain = "x", np.float32(width**-0.5)
        for i in range(layers):
            norm = np.full(width, 0.1 * (scale if i == layers - 1 else 1.0), np.float32)
            up = gain * random.standard_normal((width, 4 * width), np.float32)
            down = gain * random.standard_normal((4 * width, width), np.float32)
            nodes += [
                helper.make_node("LayerNormalization", [x, weight(f"norm{i}", norm)], [f"n{i}"], f"norm{i}"),
                helper.make_node("MatMul", [f"n{i}", weight(f"up{i}", up)], [f"u{i}"], f"up{i}"),
                helper.make_node("Relu", [f"u{i}"], [f"r{i}"], f"relu{i}"),
                helper.make_node("MatMul", [f"r{i}", weight(f"down{i}", down)], [f"d{i}"], f"down{i}"),
                helper.make_node("Add", [x, f"d{i}"], [f"x{i}"], f"add{i}"),
            ]
            x = f"x{i}"
    inputs, outputs = ([helper.make_tensor_value_info(name, 1, ["batch", width])] for name in ("x", x))
    graph = helper.make_graph(nodes, "deep", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    return str(folder)


__all__ = ["write"]
