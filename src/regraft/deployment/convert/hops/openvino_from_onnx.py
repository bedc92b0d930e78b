"""OpenVINO IR from ONNX, by OpenVINO's own front end; weights keep their precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import MissingExtra, Unsupported


class OpenVinoFromOnnx:
    """Reads the graph with OpenVINO's own front end; weights keep their precision."""

    name = "openvino_from_onnx"
    source = "onnx"
    target = "openvino"
    cost = 1

    def obstacle(self) -> str:
        """OpenVINO must be installed."""
        return missing("openvino", extra="openvino")

    def convert(self, source: Source) -> Hop:
        """Read the graph and write it as XML and constants.

        Raises:
            Unsupported: OpenVINO refuses the graph, or what it wrote does not run at the sizes of the examples.
            MissingExtra: openvino is not installed.
        """
        files, version = openvino_files(source, is_halved=False)
        return Hop(files, "openvino", versions={"openvino": version})


def openvino_files(source: Source, *, is_halved: bool) -> tuple[dict[str, bytes], str]:
    """An ONNX graph as IR, run at the sizes of the examples.

    Args:
        source: a loaded ONNX graph.
        is_halved: store weights in float16.
    Returns:
        file name → bytes, the graph first; and the version of openvino.
    Raises:
        Unsupported, MissingExtra: as `OpenVinoFromOnnx.convert`.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", extra="openvino", where=source.where) from error
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
    from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes

    model = source.loaded()
    if not isinstance(model, OnnxRuntimeModel):
        raise Unsupported("only ONNX graphs are converted to OpenVINO", where=source.where)
    graph = graph_from_bytes(model.content, where=source.where)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(graph, str(path), compress_to_fp16=is_halved)
        files = {name: (Path(folder) / name).read_bytes() for name in ("model.xml", "model.bin")}
    product = OpenVinoModel(
        graph_from_bytes(files["model.xml"], files["model.bin"], where=source.where), precision="float32"
    )
    prove(product, model, source.feeds, {port.name: port.name for port in model.signature.inputs})
    product.close()
    return files, str(openvino.__version__)
