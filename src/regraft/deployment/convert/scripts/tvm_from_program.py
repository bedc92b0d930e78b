"""A library of TVM from an exported program of torch."""

import sys

from tvm_library import refusal, written


def convert(model, out, options):
    """Translate the program, whose sizes are free or fixed as they are in it, and compile it.

    Raises:
        NotImplementedError: the frontend lacks operators, which it names.
        ValueError: the frontend or the compiler refuses the program; the message is its own.
    """
    import torch
    from tvm import relax
    from tvm.relax.frontend.torch import from_exported_program

    mended = {
        "amax.default": _extreme(relax.op.max),
        "amin.default": _extreme(relax.op.min),
        "slice.Tensor": _sliced,
    }
    try:
        module = from_exported_program(torch.export.load(model), custom_convert_map=mended)
    except Exception as error:
        raise refusal(error) from error
    made = written(module, out, options)
    return {**made, "versions": {**made["versions"], "torch": str(torch.__version__)}}


def _extreme(reduce):
    """`aten.amax` and `aten.amin`, which TVM 0.27 has as operators, and its frontend has not."""

    def converted(node, importer):
        value, axes, keeps = (*node.args, *((), False)[len(node.args) - 1 :])
        return importer.block_builder.emit(reduce(importer.env[value], list(axes) or None, keeps))

    return converted


def _sliced(node, importer):
    """`aten.slice`, whose end torch has proven to lie within the axis where it says so of the result.

    TVM 0.27 takes the smaller of both for the size, as of a table of positions that is cut to the length of the tokens,
    and finds that it fits nothing that is added to it.
    """
    from tvm import relax

    value, axis, start, end, step = (*node.args, *(0, None, None, 1)[len(node.args) - 1 :])
    found, begins = importer.env[value], 0 if start is None else importer.env.get(start, start)
    ends = sys.maxsize if end is None else importer.env.get(end, end)
    is_whole = isinstance(ends, int) and ends >= sys.maxsize and begins == 0 and step == 1
    if is_whole:
        return found
    is_within = hasattr(end, "meta") and begins == 0 and str(node.meta["val"].shape[axis]) == str(end.meta["val"])
    sliced = relax.op.strided_slice(found, [axis], [begins], [ends], [step], assume_inbound=is_within)
    return importer.block_builder.emit(sliced)
