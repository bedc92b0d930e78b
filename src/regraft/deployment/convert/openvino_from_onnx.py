"""OpenVINO IR from ONNX, by OpenVINO's own front end; weights keep their precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

from regraft.deployment.convert.interface import Hop, Source
from regraft.errors import MissingExtra, Unsupported


class OpenVinoFromOnnx:
    """Converts ONNX graphs."""

    name = "openvino_from_onnx"
    source = "onnxruntime"
    target = "openvino"

    def convert(self, source: Source) -> Hop:
        """Read the graph and write it as XML and constants.

        Raises:
            Unsupported: OpenVINO refuses the graph, or what it wrote does not run at the sizes of the examples.
            MissingExtra: openvino is not installed.
        """
        try:
            import openvino
        except ImportError as error:
            raise MissingExtra("openvino", extra="openvino", where=source.model.where) from error
        from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
        from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes

        if not isinstance(source.model, OnnxRuntimeModel):
            raise Unsupported("only ONNX graphs are converted to OpenVINO", where=source.model.where)
        graph = graph_from_bytes(source.model.content, where=source.model.where)
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            path = Path(folder) / "model.xml"
            openvino.save_model(graph, str(path), compress_to_fp16=False)
            files = {name: (Path(folder) / name).read_bytes() for name in ("model.xml", "model.bin")}
        model = OpenVinoModel(
            graph_from_bytes(files["model.xml"], files["model.bin"], where=source.model.where), precision="float32"
        )
        names = {port.name for port in model.signature.inputs}
        for feeds in source.feeds:
            model({name: value for name, value in feeds.items() if name in names})
        model.close()
        return Hop(files, "openvino", versions={"openvino": str(openvino.__version__)})
