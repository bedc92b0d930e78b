"""OpenVINO IR from torch, by OpenVINO's own reader of exported programs; for networks that do not pass through ONNX."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from regraft.runtime.interface import Model


class OpenVinoFromTorch:
    """Converts programs, and eager networks that torch.export follows. Dearer than through ONNX, which comes first."""

    name = "openvino_from_torch"
    source = "torch"
    target = "openvino"
    cost = 5

    def obstacle(self) -> str:
        """PyTorch and OpenVINO must be installed."""
        return missing("torch", extra="torch") or missing("openvino", extra="openvino")

    def convert(self, source: Source) -> Hop:
        """Export the network, translate the program, and run the result at every size of the examples.

        Raises:
            Unsupported: torch or OpenVINO cannot follow the network; OpenVINO names the operators that it lacks.
        """
        import openvino

        from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes
        from regraft.runtime.torch_export import TorchExportModel, exported
        from regraft.runtime.torch_module import TorchModel

        model = source.loaded()
        if not isinstance(model, TorchModel | TorchExportModel):
            raise Unsupported(f"a {type(model).__name__} is neither an eager module nor a program", where=model.where)
        outputs = list(model(source.feeds[0]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _translated(exported(model, source.feeds[0]), model)
        _name_ports(graph, model, outputs)
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            openvino.save_model(graph, str(Path(folder) / "model.xml"), compress_to_fp16=False)
            files = {name: (Path(folder) / name).read_bytes() for name in ("model.xml", "model.bin")}
        product = OpenVinoModel(
            graph_from_bytes(files["model.xml"], files["model.bin"], where=model.where), precision="float32"
        )
        prove(product, model, source.feeds, {port.name: port.name for port in model.signature.inputs})
        product.close()
        return Hop(files, "openvino", versions={"openvino": str(openvino.__version__)})


def _translated(program: ExportedProgram, model: Model) -> Any:
    import openvino

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return openvino.convert_model(program)
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        raise Unsupported(f"OpenVINO cannot translate the program: {text}", where=model.where) from error


def _name_ports(graph: Any, model: Model, outputs: list[str]) -> None:
    """Inputs and outputs get the source's names, and the inputs its sizes back: the translation makes all dynamic."""
    import openvino

    shapes = {}
    for place, port in zip(graph.inputs, model.signature.inputs, strict=True):
        place.get_tensor().set_names({port.name})
        if port.shape is not None:
            shapes[port.name] = openvino.PartialShape([x if isinstance(x, int) else -1 for x in port.shape])
    if shapes:
        graph.reshape(shapes)
    for place, name in zip(graph.outputs, outputs, strict=True):
        place.get_tensor().set_names({name})
