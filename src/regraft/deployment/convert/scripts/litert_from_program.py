"""TFLite from an exported program of torch, by litert-torch; runs in the environment `mobile`."""

from importlib.metadata import version
from pathlib import Path

from litert_ends import with_names
from programs import Named, inputs_of, loaded, outputs_of


def convert(model, out, options):
    """A flatbuffer of builtin operators in the precision of the source; integers of 64 bits become such of 32.

    Raises:
        RuntimeError and others: an operator has no lowering; the message names it.
    """
    del options
    import litert_torch
    from ai_edge_litert import schema_py_generated as schema

    program = loaded(model)
    inputs = inputs_of(program)
    outputs = outputs_of(program, inputs)
    made = litert_torch.convert(Named(program), sample_kwargs=inputs, enable_x64=False).model_content()
    (Path(out) / "model.tflite").write_bytes(with_names(made, schema, list(inputs), list(outputs)))
    wide = [name for name, tensor in (inputs | outputs).items() if str(tensor.dtype) == "torch.int64"]
    notes = [f"{', '.join(wide)}: int32 in place of int64"] if wide else []
    versions = {name: version(name) for name in ("litert-torch", "litert-converter", "torch")}
    return {"model": "model.tflite", "notes": notes, "versions": versions}
