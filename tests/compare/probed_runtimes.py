"""Runtimes with a fault, as `OperatorProcess` prepares operators in them."""

from __future__ import annotations

import os

import onnx
from onnx import helper

from regraft.runtime.operator_process import in_onnxruntime


def leaky(content: bytes, dtype: str):
    """A runtime whose Relu lets a thousandth of what is below zero through."""
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"
            node.attribute.append(helper.make_attribute("alpha", 0.001))
    return in_onnxruntime(model.SerializeToString(), dtype)


def crashing(content: bytes, dtype: str):
    """A runtime that dies of MatMul."""
    if any(node.op_type == "MatMul" for node in onnx.load_from_string(content).graph.node):
        os.abort()
    return in_onnxruntime(content, dtype)
