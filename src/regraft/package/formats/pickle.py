"""Plain pickle streams, protocols 0 to 5: what remains after torch, joblib and numpy took theirs."""

from __future__ import annotations

import re

from regraft.errors import Damaged, RegraftError
from regraft.package.formats.interface import Description, Loading, Probe, Role
from regraft.package.formats.pickle_streams import first_stream, pickle_streams
from regraft.package.formats.pickle_tensors import arrays_of
from regraft.package.formats.pickle_values import Call, Dict, Global, PickleStream, Set, Value, named_values

_LOOK_OPCODES = 20_000
_SURE_OPCODES = 12
_IDENTIFIER = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MAX_DESCRIBED_VALUES = 200_000
_LIBRARIES = frozenset(
    {
        "torch",
        "numpy",
        "sklearn",
        "scipy",
        "pandas",
        "joblib",
        "xgboost",
        "lightgbm",
        "catboost",
        "gensim",
        "spacy",
        "transformers",
        "jax",
        "tensorflow",
        "keras",
        "omegaconf",
        "pytorch_lightning",
        "lightning",
        "e3nn",
        "torchvision",
        "timm",
        "paddle",
        "mxnet",
        "chainer",
        "nltk",
        "dill",
        "cloudpickle",
    }
)


class Pickle:
    """Anything that Python's unpickler would begin to execute."""

    name = "pickle"
    title = "Python pickle"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes: tuple[str, ...] = (".pkl", ".pickle", ".p", ".pck", ".bin", ".dat", ".model")

    def matches(self, probe: Probe) -> bool:
        """Does the machine get through it, or at least as far as a call?"""
        head = probe.head
        if len(head) < 2:
            return False
        try:
            stream = first_stream(probe, max_opcodes=_LOOK_OPCODES)
            if head[0] == 0x80 and head[1] <= 5:
                return _is_declared(stream, probe.reader.size)
            return _is_undeclared(stream, probe.reader.size)
        except RegraftError:
            return False

    def describe(self, probe: Probe) -> Description:
        """Protocol, class, libraries, arrays; nothing is unpickled."""
        streams = [stream for _, stream in pickle_streams(probe, self)]
        if not streams:
            raise Damaged("an empty pickle", where=probe.name)
        return describe_streams(streams)


def describe_streams(streams: list[PickleStream]) -> Description:
    """What pickle streams say about themselves; `streams` is not empty."""
    first = streams[0]
    arrays = [arrays_of(stream.root) for stream in streams if stream.calls]  # arrays are made by calls
    tensors = tuple(tensor for found in arrays for tensor in found.tensors)
    paths = {name.path for stream in streams for name in stream.globals}
    metadata = {"class": class_of(first.root), "globals": str(len(paths)), "streams": str(len(streams))}
    libraries = sorted({path.split(".")[0] for path in paths} & _LIBRARIES)
    if libraries:
        metadata["libraries"] = ", ".join(libraries)
    metadata |= _versions(first.root) if first.calls else {}
    problems = [p for stream in streams if (p := stream.problem) is not None]
    problems += [problem for found in arrays for problem in found.problems]
    return Description(
        version=str(first.protocol),
        tensors=tensors or None,
        parameters=sum(found.parameters for found in arrays) if tensors else None,
        metadata=metadata,
        problems=tuple(problems[:100]),
    )


def class_of(value: Value) -> str:
    """Qualified name of the class of what unpickling returns, as far as the stream says."""
    if isinstance(value, Call):
        first = value.arguments[0] if value.arguments else None
        if value.path in ("copyreg._reconstructor", "copyreg.__newobj__") and isinstance(first, Global):
            return first.path
        return value.path
    if isinstance(value, Global):
        return f"the name {value.path}"
    names = {Dict: "dict", Set: "set"}
    return names.get(type(value), type(value).__name__.removesuffix("Type"))


def _is_declared(stream: PickleStream, size: int) -> bool:
    """A PROTO opcode stands in front: what follows must make sense for a while."""
    if stream.stopped:
        return stream.problem is None or bool(stream.globals)
    cut_off = stream.problem is not None and stream.end_offset + 16 >= size
    return stream.limited or bool(stream.calls) or stream.opcodes > _SURE_OPCODES or (cut_off and stream.opcodes > 1)


def _is_undeclared(stream: PickleStream, size: int) -> bool:
    """Protocols 0 and 1 have no mark of their own, and text can look like opcodes."""
    if any(_is_plausible_call(call) for call in stream.calls):
        return True
    if stream.limited or not stream.complete:
        return stream.memoized > 2 and stream.opcodes > _SURE_OPCODES * 2
    if not all(_is_name(name) for name in stream.globals):
        return False
    if stream.memoized:
        return stream.opcodes > 3 or stream.end_offset == size
    return stream.end_offset == size and (stream.opcodes > 5 or bool(stream.globals))


def _is_plausible_call(call: Call) -> bool:
    return isinstance(call.function, Global) and _is_name(call.function) and isinstance(call.args, tuple)


def _is_name(name: Global) -> bool:
    return name.extension is not None or all(
        part is not None and len(part) < 200 and _IDENTIFIER.fullmatch(part) for part in (name.module, name.name)
    )


def _versions(root: Value) -> dict[str, str]:
    """Version of the library that wrote the object, where its state says so."""
    found: dict[str, str] = {}
    for count, (_, value) in enumerate(named_values(root, max_depth=20, max_values=_MAX_DESCRIBED_VALUES)):
        if isinstance(value, Call):
            for key, library in (("_sklearn_version", "sklearn"), ("__version__", "library")):
                version = value.attribute(key)
                if isinstance(version, str) and len(version) < 40:
                    found.setdefault(f"{library}_version", version)
        if "sklearn_version" in found or count > 10_000:
            break
    return found
