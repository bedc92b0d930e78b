"""What a model computes: loading, signatures, feeds, traces and measuring, one file a runtime."""

from __future__ import annotations

import functools
import importlib
import posixpath
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import AmbiguousReference, Unsupported, UsageError
from regraft.plugins import Plugin, load_plugins
from regraft.runtime.interface import LoadOptions, Model, Runtime
from regraft.runtime.verified import VerifiedFiles, is_inert

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.record.permit import Permit

_MEMBERS: tuple[str, ...] = (
    "trace_model:TraceRuntime",
    "torch_factory:TorchFactoryRuntime",
    "pipeline:PipelineRuntime",
    "torch_transformers:TransformersRuntime",
    "torch_gguf:GgufRuntime",
    "torch_script:TorchScriptRuntime",
    "torch_export:TorchExportRuntime",
    "torch_aot:AotInductorRuntime",
    "static_embedding:StaticEmbeddingRuntime",
    "onnx_decoder:OnnxDecoderRuntime",
    "onnxruntime_model:OnnxRuntime",
    "openvino_model:OpenVinoRuntime",
    "tract_model:TractRuntime",
    "iree_model:IreeRuntime",
    "tvm_model:TvmRuntime",
    "ncnn_model:NcnnRuntime",
    "mnn_model:MnnRuntime",
    "litert_model:LiteRtRuntime",
    "keras_model:KerasRuntime",
    "tensorflow_model:TensorFlowRuntime",
    "executorch_model:ExecuTorchRuntime",
    "torch_cuda:TorchCudaRuntime",
)
"""`module:Class` of every member; for a file that several can load, the first one does."""

ENTRY_POINTS = "regraft.runtimes"
"""Group of entry points by which other distributions add runtimes."""
_LISTED = 12


def load(
    package: Package,
    permit: Permit | None = None,
    *,
    runtime: str | None = None,
    path: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    factory: str | None = None,
    head: bool = True,
) -> Model:
    """Load the model of a package in the runtime that executes its format.

    Args:
        package: open package.
        permit: leave from scan evidence for the same bytes; formats that can only hold data need none.
        runtime: `torch`, `torch-cuda`, `onnxruntime`, `openvino`, `tract`, `iree`, `tvm`, `ncnn`, `mnn`, `litert`,
            `keras`, `tensorflow`, `numpy` or a third party's; None for the first that can.
        path: the weights or graph file; None when the package has only one.
        threads: intra-op threads; None for the runtime's default.
        precision: computation precision to demand; None for what the package's `regraft.json` asks for, if
            it does, else the runtime's choice.
        factory: `module:factory`, the user's own code that builds the network for weights without an architecture.
        head: with the task head that the package declares; False for the backbone alone.
    Raises:
        UsageError: no such runtime.
        AmbiguousReference: several files could be meant; the message lists them.
        Unsupported: no runtime executes what is there, or not as asked.
        PermitRefused: loading may execute code and no permit for these bytes allows it.
        DigestMismatch, Damaged, MissingExtra.
    Source: docs/adr/0015-runtimes.md.
    """
    options = LoadOptions(threads=threads, precision=precision, factory=factory, head=head)
    chosen = path or model_path(package, runtime=runtime, factory=factory)
    return load_verified(VerifiedFiles(package, permit), chosen, options, runtime=runtime)


def load_verified(files: VerifiedFiles, path: str, options: LoadOptions, *, runtime: str | None = None) -> Model:
    """As `load`, for one file of a package whose permit was checked already.

    Raises:
        As `load`.
    """
    member = _member(_named(runtime), files.package, path, options)
    if member is None:
        raise _nothing(files.package, path, runtime, options)
    if options.precision is None:
        options = msgspec.structs.replace(options, precision=_declared_precision(files, path))
    return member.load(files, path, options)


def _declared_precision(files: VerifiedFiles, path: str) -> str | None:
    """The computation precision that `regraft.json` beside the file asks for, None when it asks for none."""
    from regraft.runtime.tokenizing import json_beside

    fields = json_beside(files, path, "regraft.json")
    found = fields.get("precision") if isinstance(fields, dict) else None
    return found if isinstance(found, str) else None


def model_path(package: Package, *, runtime: str | None = None, factory: str | None = None) -> str:
    """The file that `load` would load, without loading it.

    Raises:
        As `load`, about the choice.
    """
    options = LoadOptions(factory=factory)
    candidates = list(_candidates(_named(runtime), package, options))
    if not candidates:
        raise _nothing(package, None, runtime, options)
    return _only(candidates, package)


def require_runtime(name: str) -> None:
    """See that there is a runtime of that name.

    Raises:
        UsageError: there is none; the hint lists those that there are.
    """
    _named(name)


def needs_permit(package: Package, path: str) -> bool:
    """Can loading this file execute code, so that a scan has to come first?

    A model of TensorFlow.js is data for a browser; the runtime here builds its layers by Keras.
    """
    _, recognised = package.probe(path)
    return not is_inert(package, path) or (recognised is not None and recognised.name == "tfjs")


@functools.cache
def runtimes() -> tuple[Runtime, ...]:
    """One instance of every member, the project's own first; a broken third party's is left out (see `broken`)."""
    own = []
    for spec in _MEMBERS:
        module, name = spec.split(":")
        own.append(getattr(importlib.import_module(f"{__name__}.{module}"), name)())
    return (*own, *(plugin.member for plugin in _third_parties() if not plugin.reason))


def broken() -> dict[str, str]:
    """Entry point of a third party → why it could not be used."""
    return {plugin.name: plugin.reason for plugin in _third_parties() if plugin.reason}


@functools.cache
def _third_parties() -> tuple[Plugin, ...]:
    return load_plugins(ENTRY_POINTS)


def _named(runtime: str | None) -> Sequence[Runtime]:
    members = [member for member in runtimes() if runtime in (None, member.name)]
    if not members:
        import difflib

        names = sorted({member.name for member in runtimes()})
        begun = [name for name in names if name.startswith(str(runtime))]  # onnx is onnxruntime before it is mnn
        close = begun or difflib.get_close_matches(str(runtime), names, n=1, cutoff=0.3)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"there is no runtime {runtime!r}", hint=f"{hint}there are: {', '.join(names)}")
    return members


def _member(members: Sequence[Runtime], package: Package, path: str, options: LoadOptions) -> Runtime | None:
    return next((member for member in members if member.can_load(package, path, options)), None)


def _candidates(members: Sequence[Runtime], package: Package, options: LoadOptions) -> Iterator[tuple[str, Runtime]]:
    for entry in package.entries:
        if entry.obstacle is None and (member := _member(members, package, entry.path, options)):
            yield entry.path, member


def _only(candidates: list[tuple[str, Runtime]], package: Package) -> str:
    """The one candidate; of files that stand for the same network in one folder, the one that can only be data."""
    paths = [place for place, _ in candidates]
    one_folder = len({posixpath.dirname(place) for place in paths}) == 1
    if len(paths) == 2 and one_folder and len({member.name for _, member in candidates}) == 1:
        inert = [place for place in paths if is_inert(package, place)]
        paths = inert if len(inert) == 1 else paths
    if len(paths) > 1:
        listed = ", ".join(paths[:_LISTED]) + (" …" if len(paths) > _LISTED else "")
        raise AmbiguousReference(
            f"{len(paths)} models could be meant: {listed}",
            where=str(package.ref),
            hint=f"name one: {package.ref}#{paths[0]}",
        )
    return paths[0]


def _nothing(package: Package, path: str | None, runtime: str | None, options: LoadOptions) -> Exception:
    """Why nothing can be loaded, and what would help."""
    from regraft.runtime.torch_weights import WEIGHT_FORMATS

    formats: dict[str, str] = {}
    for entry in package.entries:
        if entry.obstacle is None and path in (None, entry.path):
            _, recognised = package.probe(entry.path)
            formats[entry.path] = recognised.name if recognised else "unknown"
    by = f"the runtime {runtime}" if runtime else "a runtime"
    where = f"{package.ref}" + (f"#{path}" if path and not package.ref.inside else "")
    weights = [place for place, kind in formats.items() if kind in WEIGHT_FORMATS]
    if weights and options.factory is None:
        return Unsupported(
            f"{weights[0]} holds weights, and nothing beside it says which network they belong to",
            where=where,
            hint="name code of yours that builds the network: --factory my_module:build (in Python: factory=…)",
        )
    held = ", ".join(sorted(set(formats.values()))[:_LISTED]) or "no readable files"
    if options.factory is not None:
        return Unsupported(
            f"the factory {options.factory!r} builds a network for weights, and there are none; found: {held}",
            where=where,
            hint="a factory is module:function, and goes with bare weights (.safetensors, .pt); leave it out here",
        )
    return Unsupported(
        f"there is no file that {by} executes; found: {held}", where=where, hint=f"regraft inspect {package.ref}"
    )


__all__ = [
    "LoadOptions",
    "Model",
    "Runtime",
    "broken",
    "load",
    "load_verified",
    "model_path",
    "needs_permit",
    "require_runtime",
    "runtimes",
]
