"""From a loaded model to its operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.operator_graph import OperatorGraph


def operator_graph(model: Model, feeds: Feeds, *, threads: int | None = None) -> OperatorGraph:
    """The operators of a model, each of which can be run alone.

    Args:
        model: of torch, ONNX Runtime, OpenVINO, LiteRT, tract, JAX or Keras.
        feeds: inputs that it accepts: an eager torch model is exported with them.
        threads: of each operator.
    Raises:
        Unsupported: the runtime shows no operators, or torch.export cannot follow the network.
    """
    kind = type(model).__name__
    any_model: Any = model
    if kind == "OnnxRuntimeModel":
        from regraft.runtime.onnx_graph import OnnxGraph

        return OnnxGraph(any_model.outline, threads=threads, where=model.where, weights=any_model.weights)
    if kind == "OpenVinoModel":
        from regraft.runtime.openvino_graph import OpenVinoGraph

        return OpenVinoGraph(any_model)
    if model.runtime in ("litert", "tract"):
        from regraft.runtime.litert_graph import LiteRtGraph

        return LiteRtGraph(model, feeds)
    if kind in ("JaxModel", "KerasModel"):
        graph: OperatorGraph = any_model.graph(feeds)
        return graph
    if kind == "TorchScriptModel":
        from regraft.runtime.torch_graph import TorchGraph
        from regraft.runtime.torch_unrolled import unrolled

        return TorchGraph(unrolled(any_model, feeds), threads=threads)
    if kind in ("TorchModel", "TorchExportModel"):
        from regraft.runtime.torch_graph import TorchGraph
        from regraft.runtime.torch_programs import program_of

        is_program = kind == "TorchExportModel"
        return TorchGraph(any_model if is_program else program_of(any_model, feeds), threads=threads)
    raise Unsupported(f"{model.runtime} does not show its operators one by one", where=model.where)
