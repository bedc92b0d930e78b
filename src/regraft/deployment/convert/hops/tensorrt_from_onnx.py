"""A TensorRT engine from ONNX, by NVIDIA's own parser and builder, for the GPU at hand."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.interface import Hop, Source
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model


class TensorRtFromOnnx:
    """Builds engines of ONNX graphs in float32, TensorFloat-32 off; free sizes range over those of the examples."""

    name = "tensorrt_from_onnx"
    source = "onnx"
    target = "tensorrt"
    cost = 4

    def obstacle(self) -> str:
        """TensorRT must be installed; it brings 2 GB of its own, and wants an NVIDIA GPU."""
        if importlib.util.find_spec("tensorrt") is not None:
            return ""
        return "tensorrt is not installed, and needs an NVIDIA GPU: pip install tensorrt"

    def convert(self, source: Source) -> Hop:
        """Parse the graph and build an engine, which runs on this kind of GPU under this version alone.

        Raises:
            Unsupported: TensorRT is not installed, or cannot parse or build the graph (the message is its own), or the
                graph does not say how many axes an input has.
        """
        if obstacle := self.obstacle():
            raise Unsupported(obstacle, where=source.where)
        model = source.loaded()
        _require_ranks(model)
        try:
            engine, version = _engine(source, model)
        except Unsupported:
            raise
        except Exception as error:  # without a GPU, or the driver's libraries, its bindings raise what they like
            said = " ".join(str(error).split())[:500]
            raise Unsupported(f"TensorRT stopped: {type(error).__name__}: {said}", where=source.where) from error
        notes = ("built for this GPU and this TensorRT; native code, which a scan cannot pass",)
        return Hop({"model.engine": engine}, "tensorrt", notes, {"tensorrt": version})


def _require_ranks(model: Model) -> None:
    """A profile is a range of sizes for each axis, of which there must be a known number."""
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    if not isinstance(model, OnnxRuntimeModel):
        raise Unsupported("only ONNX graphs are parsed", where=model.where)
    names = {port.name for port in model.signature.inputs}
    for value in model.outline.graph.input:
        if value.name in names and not value.type.tensor_type.HasField("shape"):
            raise Unsupported(f"the graph does not say how many axes {value.name!r} has", where=model.where)


def _engine(source: Source, model: Model) -> tuple[bytes, str]:
    """The engine, and the version of TensorRT."""
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        is_parsed = parser.parse_from_file(str(source.copy_to(Path(folder))))  # weights may lie beside the graph
    if not is_parsed:
        said = "; ".join(str(parser.get_error(number).desc()) for number in range(parser.num_errors))
        raise Unsupported(f"TensorRT cannot parse the graph: {said[:500]}", where=source.where)
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    if profile := _profile(builder, model, source.feeds):
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise Unsupported("TensorRT cannot build an engine of the graph", where=source.where)
    return bytes(engine), str(tensorrt.__version__)


def _profile(builder: Any, model: Model, examples: Sequence[Feeds]) -> Any:
    """The range of every input's sizes over the examples, tuned for the first; None where all are fixed."""
    ports = [port for port in model.signature.inputs if not all(isinstance(extent, int) for extent in port.shape or ())]
    if not ports:
        return None
    profile = builder.create_optimization_profile()
    for port in ports:
        shapes = [feeds[port.name].shape for feeds in examples]
        least, most = (tuple(extreme(sizes) for sizes in zip(*shapes, strict=True)) for extreme in (min, max))
        profile.set_shape(port.name, least, shapes[0], most)
    return profile
