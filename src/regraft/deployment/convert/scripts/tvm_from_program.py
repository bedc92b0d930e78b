"""A library of TVM from an exported program of torch."""

from tvm_library import refusal, written


def convert(model, out, options):
    """Translate the program, whose sizes are free or fixed as they are in it, and compile it.

    Raises:
        NotImplementedError: the frontend lacks operators, which it names.
        ValueError: the frontend or the compiler refuses the program; the message is its own.
    """
    import torch
    from tvm.relax.frontend.torch import from_exported_program

    try:
        module = from_exported_program(torch.export.load(model))
    except Exception as error:
        raise refusal(error) from error
    made = written(module, out, options)
    return {**made, "versions": {**made["versions"], "torch": str(torch.__version__)}}
