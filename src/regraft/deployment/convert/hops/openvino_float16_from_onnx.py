"""OpenVINO IR whose weights are stored in float16; a processor computes with them in float32."""

from __future__ import annotations

from regraft.deployment.convert.hops.openvino_from_onnx import openvino_files
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing


class OpenVinoFloat16FromOnnx:
    """Converts ONNX graphs, and halves what they weigh."""

    name = "openvino_float16_from_onnx"
    source = "onnx"
    target = "openvino-float16"
    cost = 5

    def obstacle(self) -> str:
        """OpenVINO must be installed."""
        return missing("openvino", extra="openvino")

    def convert(self, source: Source) -> Hop:
        """Read the graph and write it with `compress_to_fp16`.

        Raises:
            Unsupported: OpenVINO refuses the graph, or what it wrote does not run at the sizes of the examples.
            MissingExtra: openvino is not installed.
        """
        files, version = openvino_files(source, is_halved=True)
        note = "weights are stored in float16, and computed with in float32"
        return Hop(files, "openvino", (note,), {"openvino": version})
