"""Networks that torch exports: what the exporter makes of them is kept on the disk, since it takes a while."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx

CACHE = Path(os.environ.get("REGRAFT_MUTATION_CACHE", Path(__file__).parents[3] / "build/mutations"))
ASSETS = Path(
    os.environ.get(
        "REGRAFT_TEST_ASSETS", Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "regraft/assets"
    )
)


def kept(name: str, make: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """The network under that name, made when it is not on the disk yet. Rename it when `make` changes."""
    path = CACHE / f"{name}.onnx"
    if not path.exists():
        proto = make()
        for number, node in enumerate(proto.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
            del node.metadata_props[:]
            node.doc_string = ""
        onnx.checker.check_model(proto, full_check=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        onnx.save(proto, str(path.with_suffix(".partial")))
        path.with_suffix(".partial").replace(path)
    return onnx.load(str(path))


def exported(
    module: Any,
    feeds: dict[str, Any],
    *,
    outputs: list[str],
    dynamic: dict[str, dict[int, str]],
    opset: int,
) -> onnx.ModelProto:
    """A network through torch.onnx, with the exporter's own optimisations.

    Args:
        module: in evaluation mode.
        feeds: example tensors by argument name, every dynamic size at least 2.
        outputs: names of the results.
        dynamic: argument → axis → name of the symbolic size.
        opset: of the graph.
    """
    import torch

    shapes = {name: dict.fromkeys(dynamic.get(name, {}), torch.export.Dim.DYNAMIC) for name in feeds}
    with _quiet(), torch.no_grad():
        made = torch.onnx.export(
            module, (), kwargs=feeds, dynamo=True, verbose=False, opset_version=opset,
            input_names=list(feeds), output_names=outputs, dynamic_shapes=shapes, optimize=True,
        )  # fmt: skip
    assert made is not None
    proto = onnx.load_from_string(made.model_proto.SerializeToString())
    symbols = {}
    for value in proto.graph.input:
        for axis, name in dynamic.get(value.name, {}).items():
            symbols[value.type.tensor_type.shape.dim[axis].dim_param] = name
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in symbols:
                dimension.dim_param = symbols[dimension.dim_param]
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
