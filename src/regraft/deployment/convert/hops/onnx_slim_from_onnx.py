"""A smaller ONNX graph of standard operators: constants folded, dead and double nodes gone, by onnxslim."""

from __future__ import annotations

from importlib.metadata import version

from regraft.deployment.convert.hops.onnx_rewriting import graph_model, quiet, refused, rewritten
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.errors import Unsupported
from regraft.runtime.onnx_proto import proto_from_bytes


class OnnxSlimFromOnnx:
    """Slims ONNX graphs; whatever runs the source runs the result."""

    name = "onnx_slim_from_onnx"
    source = "onnx"
    target = "onnx-slim"
    cost = 1

    def obstacle(self) -> str:
        """onnxslim must be installed."""
        return missing("onnxslim", "onnx", "onnxruntime", extra="optimise")

    def convert(self, source: Source) -> Hop:
        """Slim a copy of the graph.

        Raises:
            Unsupported: onnxslim cannot, or its result does not run where the source does.
        """
        model = graph_model(source)
        import onnxslim

        proto = proto_from_bytes(model.content, source.where)
        try:
            with quiet():
                slim = onnxslim.slim(proto)
        except Exception as error:
            raise refused("onnxslim", error, source.where) from error
        if slim is None:
            raise Unsupported("onnxslim returned no graph", where=source.where)
        note = f"{len(model.outline.graph.node)} nodes became {len(slim.graph.node)}"
        versions = {"onnxslim": version("onnxslim")}
        return rewritten(slim, source, notes=(note,), versions=versions, precision=None)
