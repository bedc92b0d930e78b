"""A module of IREE from ONNX, by its own importer and compiler; the compiler is a program of its own."""

from pathlib import Path

OPSET = 17
_SAID = 600


def convert(model, out, options):
    """Compile for this processor; what the module says of itself stands in the reflection of its function.

    Raises:
        ValueError: the compiler refuses the graph; its lines that name what, and where.
    """
    import onnx
    from iree.compiler import tools
    from iree.compiler.extras import onnx_importer
    from iree.compiler.ir import Context, DictAttr, StringAttr
    from iree.compiler.version import VERSION

    proto = onnx.load(model)
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < OPSET:
        proto = onnx.version_converter.convert_version(proto, OPSET)
    info = onnx_importer.ModelInfo(onnx.shape_inference.infer_shapes(proto))
    module = info.create_module(context=Context()).operation
    onnx_importer.NodeImporter.define_function(info.main_graph, module).import_all()
    function = module.regions[0].blocks[0].operations[0]
    with module.context:
        stated = StringAttr.get(options["signature"])
        function.attributes["iree.reflection"] = DictAttr.get({options["reflection"]: stated})
    try:
        content = tools.compile_str(
            module.get_asm(),
            input_type="onnx",
            target_backends=["llvm-cpu"],
            extra_args=["--iree-llvmcpu-target-cpu=host"],
        )
    except tools.CompilerToolError as error:
        lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
        raise ValueError(" ".join(lines)[:_SAID] or str(error)[:_SAID]) from error
    (Path(out) / "model.vmfb").write_bytes(content)
    return {"model": "model.vmfb", "notes": [], "versions": {"iree": VERSION, "onnx": onnx.__version__}}
