"""A library of TVM from an exported program of torch."""

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

    lacking = {"amax.default": _extreme(relax.op.max), "amin.default": _extreme(relax.op.min)}
    try:
        module = from_exported_program(torch.export.load(model), custom_convert_map=lacking)
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
