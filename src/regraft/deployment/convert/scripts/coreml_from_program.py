"""A Core ML package from an exported program of torch, by coremltools; runs in the environment `mobile`."""

from importlib.metadata import version
from pathlib import Path

from programs import inputs_of, loaded, outputs_of


def convert(model, out, options):
    """An ML program in float32 with the names of the source, for iOS 17 and macOS 14 or newer.

    Raises:
        Exception: an operator has no counterpart; the message names it.
    """
    del options
    import coremltools

    program = loaded(model)
    inputs = inputs_of(program)
    names = list(outputs_of(program, inputs))
    made = coremltools.convert(
        program.run_decompositions({}),
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS17,
        skip_model_load=True,
    )
    specification = made.get_spec()
    for feature, name in zip(list(specification.description.output), names, strict=True):
        coremltools.utils.rename_feature(specification, feature.name, name, rename_inputs=False)
    package = Path(out) / "model.mlpackage"
    coremltools.models.MLModel(specification, weights_dir=made.weights_dir, skip_model_load=True).save(str(package))
    versions = {name: version(name) for name in ("coremltools", "torch")}
    path = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    return {"model": path.relative_to(out).as_posix(), "versions": versions}
