"""Forms of a network: what converters lead from and to, and which runtime executes each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from regraft.deployment.loading import Opened


class Form(msgspec.Struct, frozen=True):
    """One form.

    Attributes:
        name: as a user says it after `--to`.
        runtime: that executes it; empty for weights alone.
        formats: file formats (names of `package.formats`) that are this form; empty for code in memory.
        base: form whose converters take it, too; empty for none.
        precision: that its makers lower it to on purpose; empty when it keeps that of its source. A form of lower
            precision is an end, never a way to somewhere else.
        unrun: why nothing here executes it, though something makes it; empty for others.
    """

    name: str
    runtime: str
    formats: tuple[str, ...] = ()
    base: str = ""
    precision: str = ""
    unrun: str = ""

    @property
    def is_weights(self) -> bool:
        """Tensors by name, and no network that computes with them."""
        return not self.runtime


FORMS = {
    form.name: form
    for form in (
        Form("torch", "torch"),
        Form("torch-export", "torch", ("torch-export",), base="torch"),
        Form("torchscript", "torch", ("torchscript",)),
        Form("aotinductor", "torch-aot", ("aotinductor",)),
        Form("torch-gguf", "torch", ("gguf",), base="torch"),
        Form("onnx", "onnxruntime", ("onnx",)),
        Form("onnx-decoder", "onnxruntime"),
        Form("onnx-text", "onnxruntime"),
        Form("onnx-slim", "onnxruntime", base="onnx"),
        Form("onnx-optimised", "onnxruntime", base="onnx"),
        Form("onnx-float16", "onnxruntime", base="onnx", precision="float16"),
        Form("onnx-int8", "onnxruntime", base="onnx", precision="int8"),
        Form("openvino", "openvino", ("openvino-ir",)),
        Form("openvino-float16", "openvino", base="openvino", precision="float16"),
        Form("openvino-int8", "openvino", base="openvino", precision="int8"),
        Form("iree", "iree", ("iree",)),
        Form("tvm", "tvm", ("tvm",)),
        Form("ncnn", "ncnn", ("ncnn-param",)),
        Form("mnn", "mnn", ("mnn",)),
        Form("litert", "litert", ("tflite",)),
        Form("executorch", "executorch", ("executorch",)),
        Form("coreml", "coreml", ("coreml",), unrun="Core ML computes on Apple's systems alone"),
        Form("tensorrt", "tensorrt", unrun="Regraft has no runtime for engines of TensorRT"),
        Form("keras", "keras", ("keras-v3", "keras-h5")),
        Form("saved-model", "tensorflow", ("tf-saved-model",)),
        Form("tfjs", "tensorflow", ("tfjs",)),
        Form("jax", "jax"),
        Form("safetensors", "", ("safetensors",)),
        Form("npz", "", ("npz",)),
        Form("hdf5", "", ("hdf5",)),
        Form("gguf", "", ("gguf",)),
        Form("torch-weights", "", ("torch-zip", "torch-legacy", "torch-tar")),
    )
}
"""Form → what it is. A target that only another distribution's converter knows is a form of that runtime's name."""


def form_named(name: str) -> Form:
    """The form of that name; an unknown one is executed by the runtime that is called alike."""
    return FORMS.get(name, Form(name, name))


def takes(source: str, form: str) -> bool:
    """Does a converter from `source` take `form`?"""
    return source in (form, form_named(form).base)


def form_of(source: Opened) -> str:
    """The form of what was opened: by its file's format where that says it, else by the runtime that loaded it."""
    kind = ""
    if source.package is not None and source.path:
        _, recognised = source.package.probe(source.path)
        kind = recognised.name if recognised is not None else ""
    loaded = source.model.runtime if source.model is not None else ""
    if (
        kind == "torch-export" and type(source.model).__name__ == "TorchModel"
    ):  # a pipeline around a program is eager code, too
        return "torch"
    for form in FORMS.values():
        if kind in form.formats and form.runtime == loaded:
            return form.name
    by_runtime = [form.name for form in FORMS.values() if loaded and form.runtime == loaded]
    return by_runtime[0] if by_runtime else next((form.name for form in FORMS.values() if kind in form.formats), loaded)
