"""What passes over ONNX graphs share: where they begin, and the proof that their result runs where the source does."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.proving import prove_graph
from regraft.errors import Unsupported

if TYPE_CHECKING:
    import onnx

    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

MAX_BYTES = (1 << 31) - 1
"""Of one protobuf message; passes work on graphs that hold their weights."""


def graph_model(source: Source) -> OnnxRuntimeModel:
    """The loaded ONNX graph that a pass begins with.

    Raises:
        Unsupported: it is none, or its weights do not fit into one message.
    """
    from regraft.runtime.onnx_decoder import OnnxDecoderModel
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    model = source.loaded()
    if not isinstance(model, OnnxRuntimeModel):
        raise Unsupported("only ONNX graphs are rewritten", where=source.where)
    if isinstance(model, OnnxDecoderModel):
        raise Unsupported("a decoder with a cache is not rewritten", where=source.where)
    if model.weights is not None and model.proto.ByteSize() > MAX_BYTES:
        raise Unsupported("with its weights the graph has more than 2 GiB", where=source.where)
    return model


def rewritten(
    proto: onnx.ModelProto, source: Source, *, notes: tuple[str, ...], versions: dict[str, str], precision: str | None
) -> Hop:
    """The result of a pass, run at every size of the examples; shapes must come out as the source's.

    Raises:
        Unsupported: it does not run, or gives other shapes.
    """
    content = proto.SerializeToString()
    prove_graph(content, source.loaded(), source.feeds)
    return Hop({"model.onnx": content}, "onnxruntime", notes, versions, precision)


def optimised(content: bytes, level: str, where: str) -> onnx.ModelProto:
    """The graph as ONNX Runtime's optimiser leaves it.

    Args:
        content: a serialised graph with its weights.
        level: `basic` folds constants and stays standard ONNX, `extended` fuses to operators of ONNX Runtime's own.
            The next one, `all`, changes layouts to those of the processor at hand (NCHWc blocks).
        where: how errors name it.
    Raises:
        Unsupported: ONNX Runtime writes no file.
    Source: onnxruntime.ai, graph optimizations in ONNX Runtime.
    """
    import onnxruntime

    from regraft.runtime.onnx_proto import proto_from_bytes

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level.upper()}")
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        path = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            return proto_from_bytes(path.read_bytes(), where)
        except Exception as error:  # its exceptions share no base class
            raise refused("onnxruntime", error, where) from error


def foreign_operators(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Operators of a graph that standard ONNX has not, as `domain::operator`."""
    names = {f"{node.domain}::{node.op_type}" for node in proto.graph.node if node.domain not in ("", "ai.onnx")}
    return tuple(sorted(names))


def refused(tool: str, error: Exception, where: str) -> Unsupported:
    """What a library raised, as our error: its exceptions share no base class."""
    said = " ".join(str(error).split())[:500]
    return Unsupported(f"{tool} stopped: {type(error).__name__}: {said}", where=where)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No chatter of libraries on stdout, in warnings or through any logger."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
