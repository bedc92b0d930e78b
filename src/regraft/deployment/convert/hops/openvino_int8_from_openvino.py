"""OpenVINO IR in 8 bits: NNCF's post-training quantisation, calibrated on the examples."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from regraft.deployment.convert.hops.onnx_rewriting import quiet, refused
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.errors import Unsupported


class OpenVinoInt8FromOpenVino:
    """Quantises weights and activations of OpenVINO graphs."""

    name = "openvino_int8_from_openvino"
    source = "openvino"
    target = "openvino-int8"
    cost = 5

    def obstacle(self) -> str:
        """OpenVINO and NNCF must be installed."""
        return missing("openvino", extra="openvino") or missing("nncf", extra="optimise")

    def convert(self, source: Source) -> Hop:
        """Quantise a copy of the graph; ranges of activations are those of the examples.

        Raises:
            Unsupported: NNCF cannot, or changes nothing.
        """
        import openvino

        from regraft.runtime.openvino_model import OpenVinoModel

        model = source.loaded()
        if not isinstance(model, OpenVinoModel):
            raise Unsupported("only OpenVINO graphs are quantised by NNCF", where=source.where)
        import nncf

        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            path = Path(folder) / "model.xml"
            try:
                with quiet():
                    examples = [dict(feeds) for feeds in source.feeds]
                    quantised = nncf.quantize(model.graph.clone(), nncf.Dataset(examples), subset_size=len(examples))
                    openvino.save_model(quantised, str(path), compress_to_fp16=False)
            except Exception as error:  # its exceptions share no base class
                raise refused("nncf", error, source.where) from error
            files = {name: (Path(folder) / name).read_bytes() for name in ("model.xml", "model.bin")}
        made = sum(node.get_type_name() == "FakeQuantize" for node in quantised.get_ops())
        if not made:
            raise Unsupported("nncf quantised nothing of it", where=source.where)
        notes = (f"calibrated on {len(source.feeds)} inputs; {made} quantising operators",)
        return Hop(files, "openvino", notes, {"nncf": version("nncf"), "openvino": str(openvino.__version__)}, None)
