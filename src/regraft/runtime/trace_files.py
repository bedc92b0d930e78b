"""The file protocol of traces: `trace.json` beside safetensors files, written in a stream and read lazily.

By it a third framework, another process or an old environment takes part in a comparison. `dump_trace.py` writes it
and needs nothing of Regraft; docs/how-to/trace.md describes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import AccessDenied, Damaged, LimitExceeded, Unsupported, UsageError
from regraft.package.formats import Tensor
from regraft.package.formats.safetensors import tensor_places
from regraft.package.limits import MAX_TENSORS
from regraft.package.sources.trace import INDEX

if TYPE_CHECKING:
    from regraft.package.package import Package
    from regraft.package.reader import Reader
    from regraft.runtime.dump_trace import Dump
    from regraft.runtime.feeds import FeedCase
    from regraft.runtime.interface import Array, Feeds, Model, Tap

SCHEMA = "regraft.trace/1"
_MAX_INDEX_BYTES = 64 << 20
_MAX_FILES = 10_000
_MAX_RANK = 32
_MAX_TENSOR_BYTES = 8 << 30


class KeptTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One array of a trace.

    Attributes:
        dtype: numpy's name; `bfloat16` is handed out as float32.
        file, key: the safetensors file beside `trace.json` and the name in it; None when only its digest is kept.
        sha256: of an input's little-endian bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str | None = None
    key: str | None = None
    sha256: str | None = None


class KeptTap(KeptTensor, frozen=True, kw_only=True):
    """An intermediate tensor; see `Tap`. `inputs` is None where nobody knows what its operator consumed."""

    operator: str = ""
    scope: str = ""
    inputs: tuple[str, ...] | None = None


class KeptPass(msgspec.Struct, frozen=True, kw_only=True):
    """One pass: what went in, what came out, and the taps in order. `precision`: None for that of the trace."""

    name: str = ""
    precision: str | None = None
    inputs: tuple[KeptTensor, ...] = ()
    outputs: tuple[KeptTensor, ...] = ()
    taps: tuple[KeptTap, ...] = ()


class TraceIndex(msgspec.Struct, frozen=True, kw_only=True):
    """`trace.json`: whose passes they are, and in which framework of which versions they were made."""

    schema: str
    passes: tuple[KeptPass, ...]
    model: str = ""
    framework: str = ""
    versions: dict[str, str] = {}
    precision: str = "float32"


def write_trace(
    folder: Path,
    model: Model,
    cases: Iterable[FeedCase],
    *,
    taps: Sequence[str] | None = None,
    keep_inputs: bool = True,
    is_exact_too: bool = False,
) -> Path:
    """Run a model and write its traces; one tap is in memory at a time, as far as its runtime streams them.

    Args:
        folder: made by this; must not exist.
        model: loaded, traceable.
        cases: one pass each.
        taps: names to keep; None for all.
        keep_inputs: False writes their digests alone, for data that must not leave.
        is_exact_too: also write a pass in float64 of each, so that the trace can serve as a reference.
    Returns:
        the folder; it is a trace once this returns.
    Raises:
        AccessDenied: the folder exists, or cannot be written.
        Unsupported: the model has no float64, or what the model raises.
    """
    writer = _opened_dump(folder, model)
    with contextlib.ExitStack() as stack:
        stack.callback(writer.close)
        models = [model]
        if is_exact_too:
            models.append(model.cast("float64"))
            stack.callback(models[1].close)
        for case in cases:
            for one in models:
                feeds = _in_dtypes_of(one, case.feeds)
                outputs = one(feeds)
                record_pass(writer, one.trace(feeds, taps=taps), name=case.name, precision=one.effective_precision,
                            feeds=feeds, outputs=outputs, keep_inputs=keep_inputs)  # fmt: skip
    return folder


def record_pass(
    dump: Dump,
    taps: Iterable[Tap],
    *,
    name: str = "",
    precision: str | None = None,
    feeds: Feeds | None = None,
    outputs: Mapping[str, Array] | None = None,
    keep_inputs: bool = True,
) -> None:
    """Write one pass of any stream of taps. Tensors that the files cannot hold (texts) are left out.

    Raises:
        UsageError: a tap carries statistics in place of its value.
    """
    from regraft.runtime.dump_trace import DTYPES

    dump.next_pass(name, precision)
    for given, value in (feeds or {}).items():
        dump.feed(given, value, keep_inputs)
    for tap in taps:
        if tap.value is None:
            raise UsageError(f"tap {tap.name!r} has no value to write", hint="trace without reduce=")
        if tap.value.dtype.name in DTYPES:
            dump.tap(tap.name, tap.value, tap.operator, tap.scope, tap.inputs)
    for given, value in (outputs or {}).items():
        if value.dtype.name in DTYPES:
            dump.output(given, value)


class TraceFiles:
    """The arrays of a trace directory, read one by one and only when they are asked for.

    Args:
        package: open folder, closed with this; nothing outside of it is read, and no file is mapped into memory, so
            that one that shrinks meanwhile is an error and no crash.
    Raises:
        NotFound: there is no `trace.json`.
        Damaged, LimitExceeded: the index, or a header that it names, is not what it must be.
        Unsupported: another version of the protocol.
    """

    def __init__(self, package: Package) -> None:
        self.where = str(package.ref)
        self._package = package
        self._paths = {entry.path: entry for entry in package.entries}
        self._headers: dict[str, tuple[Reader, dict[str, tuple[Tensor, int]]]] = {}
        self.index = self._read_index()

    def array(self, kept: KeptTensor) -> Array:
        """The values of one tensor, bfloat16 widened to float32.

        Raises:
            Unsupported: they were not kept, or numpy has no such dtype.
            Damaged: the index and the file contradict each other.
        """
        import numpy as np

        from regraft.runtime.dump_trace import DTYPES

        if kept.file is None or kept.key is None:
            raise Unsupported(f"the values of {kept.name!r} were not kept, only their digest", where=self.where)
        if kept.dtype not in DTYPES:
            raise Unsupported(f"{kept.name!r} is {kept.dtype[:40]}, which numpy cannot hold", where=self.where)
        reader, places = self._header(kept.file)
        tensor, offset = places.get(kept.key, (None, 0))
        if tensor is None or tensor.shape != kept.shape or tensor.dtype != kept.dtype:
            found = "nothing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
            raise Damaged(
                f"{kept.name!r} should be {kept.dtype} {kept.shape}, {kept.file} has {found}", where=self.where
            )
        if len(kept.shape) > _MAX_RANK or (tensor.size_bytes or 0) > _MAX_TENSOR_BYTES:
            raise LimitExceeded(f"{kept.name!r} is larger than what is read whole", where=self.where)
        data = reader.read_exactly(offset, tensor.size_bytes or 0)
        try:
            if kept.dtype == "bfloat16":
                wide = np.frombuffer(data, dtype="<u2").astype(np.uint32) << np.uint32(16)
                return wide.view(np.float32).reshape(kept.shape)
            values: Array = np.frombuffer(data, dtype=np.dtype(kept.dtype).newbyteorder("<")).reshape(kept.shape)
        except ValueError as error:  # an empty tensor of extents that numpy cannot count
            raise Damaged(f"{kept.name!r}: {error}", where=self.where) from error
        return values.astype(kept.dtype, copy=False)

    def close(self) -> None:
        """Close the folder."""
        for reader, _ in self._headers.values():
            reader.close()
        self._headers.clear()
        self._package.close()

    def _read_index(self) -> TraceIndex:
        reader = self._package.open(INDEX)
        try:
            index = msgspec.json.decode(reader.read_all(limit=_MAX_INDEX_BYTES), type=TraceIndex)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Damaged(f"{INDEX}: {error}", where=self.where) from None
        finally:
            reader.close()
        if index.schema != SCHEMA:
            raise Unsupported(f"the schema is {index.schema[:60]!r}, this reads {SCHEMA!r}", where=self.where)
        if not index.passes:
            raise Damaged(f"{INDEX} has no pass", where=self.where)
        if sum(len(one.inputs) + len(one.outputs) + len(one.taps) for one in index.passes) > MAX_TENSORS:
            raise LimitExceeded(f"more than {MAX_TENSORS} tensors", where=self.where)
        for one in index.passes:
            self._check(one)
        return index

    def _check(self, one: KeptPass) -> None:
        for rows in (one.inputs, one.outputs, one.taps):
            names = {row.name for row in rows}
            if len(names) < len(rows):
                raise Damaged(f"pass {one.name[:100]!r} names a tensor twice", where=self.where)
        if not one.taps and not one.outputs:
            raise Damaged(f"pass {one.name[:100]!r} has neither taps nor outputs", where=self.where)

    def _header(self, file: str) -> tuple[Reader, dict[str, tuple[Tensor, int]]]:
        if file not in self._headers:
            entry = self._paths.get(file)
            if "/" in file or entry is None or entry.obstacle is not None or len(self._headers) >= _MAX_FILES:
                raise Damaged(f"the index names {file[:200]!r}, which is no file of the trace", where=self.where)
            reader = self._package.open(file)
            self._headers[file] = (reader, tensor_places(reader))
        return self._headers[file]


def _opened_dump(folder: Path, model: Model) -> Dump:
    from regraft.record.environment import capture_environment
    from regraft.runtime.dump_trace import Dump

    try:
        return Dump(str(folder), model.where, model.runtime, capture_environment().packages, model.effective_precision)
    except OSError as error:
        raise AccessDenied(
            f"the folder of a trace must be new: {error.strerror}", where=str(folder), hint="name another one"
        ) from error


def _in_dtypes_of(model: Model, feeds: Feeds) -> dict[str, Any]:
    """Floating-point feeds in the dtype that the model takes; a float64 twin takes other ones than the model."""
    wanted = {port.name: port.dtype for port in model.signature.inputs}
    return {
        name: value.astype(wanted[name])
        if value.dtype.kind == "f" and wanted.get(name, "") in ("float16", "float32", "float64")
        else value
        for name, value in feeds.items()
    }


__all__ = [
    "INDEX",
    "SCHEMA",
    "KeptPass",
    "KeptTap",
    "KeptTensor",
    "TraceFiles",
    "TraceIndex",
    "record_pass",
    "write_trace",
]
