"""Convert a network or a file by a peer alone. Run by benchmarks/converters.py in the peer's environment.

usage: converters_peers.py exporter|olive NETWORK OUT.onnx, litert NETWORK OUT.tflite, or
onnx2tf MODEL.onnx OUT_FOLDER NAME:SIZE,SIZE…
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any


def exporter(network: str, out: str) -> None:
    """torch's own exporter, every dimension but those of channels dynamic."""
    import torch

    module, feeds = _built(network)
    shapes = {name: dict.fromkeys(range(value.ndim), torch.export.Dim.AUTO) for name, value in feeds.items()}
    made = torch.onnx.export(module, (), kwargs=feeds, dynamic_shapes=shapes, dynamo=True, verbose=False)
    assert made is not None
    made.save(out)


def olive(network: str, out: str) -> None:
    """Olive's pass of conversion, by the exporter that it recommends."""
    from olive.model import PyTorchModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.conversion import OnnxConversion

    module, feeds = _built(network)
    described = {
        "input_names": list(feeds),
        "input_shapes": [list(value.shape) for value in feeds.values()],
        "input_types": [str(value.dtype).removeprefix("torch.") for value in feeds.values()],
        "output_names": [f"output_{i}" for i in range(_outputs(module, feeds))],
        "dynamic_axes": {name: {0: "batch"} for name in feeds},
    }
    handler = PyTorchModelHandler(model_loader=lambda _: module, io_config=described, dummy_inputs_func=lambda _: feeds)
    convert = create_pass_from_dict(OnnxConversion, {"use_dynamo_exporter": True}, disable_search=True)
    made = convert.run(handler, str(Path(out).with_suffix("")))
    shutil.copy(made.model_path, out)


def litert(network: str, out: str) -> None:
    """litert-torch by its one call, for the sizes of the example."""
    import litert_torch

    module, feeds = _built(network)
    litert_torch.convert(module, sample_kwargs=feeds).export(out)


def onnx2tf(model: str, out: str, *inputs: str) -> None:
    """A TFLite file with the names and layouts of the source; it gets the sizes that it wants to be told."""
    import onnx2tf as peer

    peer.convert(
        input_onnx_file_path=model,
        output_folder_path=out,
        non_verbose=True,
        copy_onnx_input_output_names_to_tflite=True,
        overwrite_input_shape=list(inputs),
        keep_shape_absolutely_input_names=[one.partition(":")[0] for one in inputs],
    )


def _built(network: str) -> tuple[Any, dict[str, Any]]:
    from benchmarks import seven

    built: tuple[Any, dict[str, Any]] = getattr(seven, network)()
    return built


def _outputs(module: Any, feeds: dict[str, Any]) -> int:
    said = module(**feeds)
    return len(said) if isinstance(said, tuple | dict) else 1


if __name__ == "__main__":
    {"exporter": exporter, "olive": olive, "litert": litert, "onnx2tf": onnx2tf}[sys.argv[1]](*sys.argv[2:])
