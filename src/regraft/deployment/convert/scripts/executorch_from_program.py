"""An ExecuTorch program from an exported program of torch; runs in the environment `mobile`."""

import json
from importlib.metadata import version
from pathlib import Path

from programs import inputs_of, loaded, outputs_of

from regraft.runtime.executorch_model import SIGNATURE
from regraft.runtime.torch_tensors import dtype_name, precision_of


def convert(model, out, options):
    """A program whose convolutions and products run in XNNPACK, the rest in the portable kernels.

    The format has no names: they are written into it as a method that returns them.

    Raises:
        Exception: an operator is none of the core ones that ExecuTorch has kernels for; the message names it.
    """
    del options
    program = loaded(model)
    inputs = inputs_of(program)
    outputs = outputs_of(program, inputs)
    stated = {
        "precision": precision_of(iter(program.state_dict.values())),
        **{
            side: [[name, dtype_name(tensor.dtype), list(tensor.shape)] for name, tensor in ends.items()]
            for side, ends in (("inputs", inputs), ("outputs", outputs))
        },
    }
    lowered, notes = lowered_to_edge(model, {SIGNATURE: json.dumps(stated)})
    with (Path(out) / "model.pte").open("wb") as file:
        lowered.to_executorch().write_to_file(file)
    versions = {name: version(name) for name in ("executorch", "torch")}
    return {"model": "model.pte", "notes": notes, "versions": versions}


def lowered_to_edge(model, methods):
    """The lowered program and what is to be said of it.

    The partitioner of XNNPACK keeps operators whole that stand in a branch, and does not take them (ExecuTorch 1.5.1).
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    try:
        return to_edge_transform_and_lower(
            loaded(model), partitioner=[XnnpackPartitioner()], constant_methods=methods
        ), []
    except RuntimeError as error:
        if "was not decomposed or delegated" not in str(error):
            raise
    return to_edge_transform_and_lower(loaded(model), constant_methods=methods), ["without XNNPACK: it has branches"]
