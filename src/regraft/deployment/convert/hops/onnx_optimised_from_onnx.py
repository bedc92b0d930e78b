"""The ONNX graph as ONNX Runtime's optimiser leaves it: fused operators that only ONNX Runtime has, faster to load."""

from __future__ import annotations

import tempfile
from pathlib import Path

from regraft.deployment.convert.hops.onnx_rewriting import foreign_operators, graph_model, refused, rewritten
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.runtime.onnx_proto import proto_from_bytes


class OnnxOptimisedFromOnnx:
    """Runs the optimiser once and keeps what it made."""

    name = "onnx_optimised_from_onnx"
    source = "onnx"
    target = "onnx-optimised"
    cost = 1

    def obstacle(self) -> str:
        """ONNX Runtime must be installed."""
        return missing("onnxruntime", "onnx", extra="onnx")

    def convert(self, source: Source) -> Hop:
        """Optimise at the level `extended`.

        The next one, `all`, changes layouts to those of the processor at hand (NCHWc blocks); its file would be
        slow or refused elsewhere. Source: onnxruntime.ai, graph optimizations in ONNX Runtime.

        Raises:
            Unsupported: ONNX Runtime writes no file, or it does not run where the source does.
        """
        import onnxruntime

        model = graph_model(source)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            path = Path(folder) / "model.onnx"
            options.optimized_model_filepath = str(path)
            try:
                onnxruntime.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])
                proto = proto_from_bytes(path.read_bytes(), source.where)
            except Exception as error:  # its exceptions share no base class
                raise refused("onnxruntime", error, source.where) from error
        notes = [f"{len(model.outline.graph.node)} nodes became {len(proto.graph.node)}"]
        foreign = foreign_operators(proto)
        if foreign:
            notes.append(f"runs in ONNX Runtime alone, by {', '.join(foreign)}")
        versions = {"onnxruntime": str(onnxruntime.__version__)}
        return rewritten(proto, source, notes=tuple(notes), versions=versions, precision=None)
