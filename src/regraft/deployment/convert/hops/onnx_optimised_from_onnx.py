"""The ONNX graph as ONNX Runtime's optimiser leaves it: fused operators that only ONNX Runtime has, faster to load."""

from __future__ import annotations

from regraft.deployment.convert.hops.onnx_rewriting import foreign_operators, graph_model, optimised, rewritten
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing


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
        """Optimise at the level `extended`, whose file runs on every processor.

        Raises:
            Unsupported: ONNX Runtime writes no file, or it does not run where the source does.
        """
        import onnxruntime

        model = graph_model(source)
        proto = optimised(model.content, "extended", source.where)
        notes = [f"{len(model.outline.graph.node)} nodes became {len(proto.graph.node)}"]
        foreign = foreign_operators(proto)
        if foreign:
            notes.append(f"runs in ONNX Runtime alone, by {', '.join(foreign)}")
        versions = {"onnxruntime": str(onnxruntime.__version__)}
        return rewritten(proto, source, notes=tuple(notes), versions=versions, precision=None)
