"""Floors that are kept on the disk: what was measured of a reference on some feeds is not measured twice."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from regraft.compare.canonical import CanonicalTensor, CanonicalTrace
from regraft.compare.deviation import Deviation
from regraft.compare.floors import SmallPart
from regraft.compare.layers import PlainTrace
from regraft.compare.measure import Answer, Yardstick
from regraft.errors import Damaged, Unsupported
from regraft.record.digest import digest_bytes, digest_chunks
from regraft.record.environment import capture_environment
from regraft.runtime.array_frames import frame_parts, read_frame

if TYPE_CHECKING:
    from regraft.record.cache import Cache
    from regraft.record.digest import Digest
    from regraft.runtime.interface import Array, Feeds, Model
    from regraft.runtime.operator_graph import OperatorGraph
    from regraft.runtime.spill import Spill

_PLAIN = bool | int | float | str | None


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    maker: int
    own: Deviation | None
    family: str
    is_exact: bool
    small: SmallPart | None
    is_unstable: bool


class _Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """What passes between operators: an array by its name in the frame, a number, or several of these."""

    array: str | None = None
    plain: _PLAIN = None
    parts: list[_Value] | None = None


class _Trace(msgspec.Struct, frozen=True):
    tensors: list[_Tensor]
    values: dict[str, _Value]
    islands: list[str] = []
    stopped: str = ""


class _Answers(msgspec.Struct, frozen=True):
    said: tuple[str, str]
    own: list[dict[str, dict[str, Deviation]]]


class FloorCache:
    """Answers, canonical and plain traces of one reference.

    Args:
        cache: where they are kept.
        reference: digest of all that decides what the reference computes.
        settings: what else does: runtime, threads.
    """

    def __init__(self, cache: Cache, reference: Digest, settings: Mapping[str, str]) -> None:
        self._cache = cache
        self._reference = reference
        self._settings = dict(settings)

    def canonical(
        self, graph: OperatorGraph, feeds: Feeds, *, precision: str, weights: str = "", spill: Spill | None = None
    ) -> CanonicalTrace:
        """The canonical trace, from the disk if it is there; else it is made, and kept.

        Args:
            graph: of the reference.
            feeds: its inputs.
            precision: judged precision.
            weights: what was done to the graph's weights, in words that tell it from all else that could be done.
            spill: where values are put, so that few of them are in memory; None to hold them.
        """
        key = self._key("canonical", [feeds], precision, weights)
        kept = self._read(key, spill)
        if kept is not None:
            trace = CanonicalTrace(graph, {}, precision=precision, is_empty=True, spill=spill)
            trace.stopped, trace.islands = kept[0].stopped, list(kept[0].islands)
            trace.tensors, trace.values = kept[1], kept[2]
            return trace
        made = CanonicalTrace(graph, feeds, precision=precision, spill=spill)
        self._write(key, made.tensors, made.values, made)
        return made

    def plain(self, graph: OperatorGraph, feeds: Feeds, *, precision: str, spill: Spill | None = None) -> PlainTrace:
        """The plain trace, likewise."""
        key = self._key("plain", [feeds], precision)
        kept = self._read(key, spill)
        if kept is not None:
            trace = PlainTrace(graph, {}, precision=precision, is_empty=True, spill=spill)
            trace.tensors = kept[1]
            return trace
        made = PlainTrace(graph, feeds, precision=precision, spill=spill)
        self._write(key, made.tensors, {name: tensor.value for name, tensor in made.tensors.items()})
        return made

    def yardstick(
        self, reference: Model, feeds: Sequence[Feeds], *, precision: str, seed: int
    ) -> tuple[Yardstick, list[Answer] | None]:
        """A yardstick, and its answers to these feeds if they are on the disk."""
        kept = self._cache.get(self._key("answers", feeds, precision, str(seed)))
        found = _answers(kept) if kept is not None else None
        if found is None:
            return Yardstick(reference, feeds[0], precisions=(precision,), seed=seed), None
        said, answers = found
        return Yardstick(reference, feeds[0], precisions=(precision,), seed=seed, said=said), answers

    def keep_answers(self, yardstick: Yardstick, feeds: Sequence[Feeds], answers: Sequence[Answer]) -> None:
        """Keep what a yardstick of one precision answered to these feeds."""
        arrays: dict[str, Array] = {}
        for i, answer in enumerate(answers):
            arrays |= {f"truth {i} {name}": value for name, value in answer.truth.items()}
            arrays |= {f"unstable {i} {name}": value for name, value in answer.unstable.items()}
        said = _Answers((yardstick.method, yardstick.reason), [answer.own for answer in answers])
        (precision,) = yardstick.precisions
        with contextlib.suppress(Unsupported):  # outputs that are texts
            self._cache.put(self._key("answers", feeds, precision, str(yardstick.seed)), frame_parts(said, arrays))

    def _key(self, kind: str, feeds: Sequence[Feeds], precision: str, more: str = "") -> str:
        environment = capture_environment()
        said = {
            "kind": kind,
            "reference": self._reference,
            "feeds": [{name: digest_of_array(value) for name, value in sorted(one.items())} for one in feeds],
            "precision": precision,
            "more": more,
            "settings": self._settings,
            "algorithm": _algorithm(),
            "environment": [environment.python, environment.cpu, environment.isa, environment.threads],
            "packages": _versions(),
        }
        return digest_bytes(msgspec.json.encode(said))

    def _read(
        self, key: str, spill: Spill | None = None
    ) -> tuple[_Trace, dict[str, CanonicalTensor], dict[str, Any]] | None:
        content = self._cache.get(key)
        if content is None:
            return None
        try:
            with content:
                message, arrays = read_frame(_reading(content), hold=None if spill is None else spill.put)
            said = msgspec.json.decode(message, type=_Trace)
            values = {name: _taken(value, arrays) for name, value in said.values.items()}
            tensors = {one.name: _tensor(one, values[one.name], arrays) for one in said.tensors}
        except (Damaged, msgspec.MsgspecError, KeyError):  # written by nobody who knows the format
            return None
        return said, tensors, values

    def _write(
        self,
        key: str,
        tensors: Mapping[str, CanonicalTensor],
        values: Mapping[str, Any],
        trace: CanonicalTrace | None = None,
    ) -> None:
        """Keep a trace; one with values that cannot be written (texts, bfloat16) is made anew each time."""
        arrays: dict[str, Array] = {}
        try:
            said = _Trace(
                [_told(tensor, arrays) for tensor in tensors.values()],
                {name: _given(value, name, arrays) for name, value in values.items()},
                list(trace.islands) if trace is not None else [],
                trace.stopped if trace is not None else "",
            )
            parts = frame_parts(said, arrays)
        except Unsupported:
            return
        self._cache.put(key, parts)


def _answers(content: BinaryIO) -> tuple[tuple[str, str], list[Answer]] | None:
    try:
        with content:
            message, arrays = read_frame(_reading(content))
        said = msgspec.json.decode(message, type=_Answers)
    except (Damaged, msgspec.MsgspecError):
        return None
    truths: list[dict[str, Any]] = [{} for _ in said.own]
    unstable: list[dict[str, Any]] = [{} for _ in said.own]
    for key, value in arrays.items():
        kind, place, name = key.split(" ", 2)
        (truths if kind == "truth" else unstable)[int(place)][name] = value
    return said.said, [Answer(*parts) for parts in zip(truths, said.own, unstable, strict=True)]


def digest_of_array(value: Array) -> str:
    """Digest of dtype, shape and content."""
    import numpy as np

    if value.dtype == object:
        return digest_bytes(repr((value.shape, value.tolist())).encode())
    content = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return digest_chunks((f"{value.dtype} {value.shape} ".encode(), content.data))


def _told(tensor: CanonicalTensor, arrays: dict[str, Array]) -> _Tensor:
    if tensor.unstable is not None:
        arrays[f"unstable {tensor.name}"] = tensor.unstable
    return _Tensor(
        tensor.name, tensor.maker, tensor.own, tensor.family, tensor.is_exact, tensor.small, tensor.unstable is not None
    )


def _tensor(one: _Tensor, value: Array, arrays: Mapping[str, Array]) -> CanonicalTensor:
    unstable = arrays[f"unstable {one.name}"] if one.is_unstable else None
    return CanonicalTensor(one.name, one.maker, value, one.own, unstable, one.family, one.is_exact, one.small)


def _given(value: Any, name: str, arrays: dict[str, Array]) -> _Value:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        key = f"value {name}"
        arrays[key] = value
        return _Value(array=key)
    if isinstance(value, tuple | list):
        return _Value(parts=[_given(part, f"{name} {i}", arrays) for i, part in enumerate(value)])
    if value is None or isinstance(value, bool | int | float | str):
        return _Value(plain=value)
    raise Unsupported(f"a {type(value).__name__} is not kept")


def _taken(value: _Value, arrays: Mapping[str, Array]) -> Any:
    if value.array is not None:
        return arrays[value.array]
    return tuple(_taken(part, arrays) for part in value.parts) if value.parts is not None else value.plain


def _reading(content: BinaryIO) -> Callable[[int], bytearray]:
    def read(count: int) -> bytearray:
        found = bytearray(count)
        if content.readinto(found) != count:  # type: ignore[attr-defined]
            raise Damaged("it ends early")
        return found

    return read


@functools.cache
def _algorithm() -> str:
    """Digest of the source that decides what a trace is, so that no change of it finds an old one."""
    here = Path(__file__).parent
    files = sorted((*here.glob("*.py"), *(here.parent / "runtime").glob("*.py")))
    return digest_chunks(path.read_bytes() for path in files)


@functools.cache
def _versions() -> list[str]:
    """Of everything that computes, imported or not."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("numpy", "onnx", "onnxruntime", "torch", "jax", "keras", "ml_dtypes"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(name)
    return found


__all__ = ["FloorCache", "digest_of_array"]
