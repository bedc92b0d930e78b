"""Where pickle streams begin in the formats that embed them, and what the machine finds in each."""

from __future__ import annotations

import re
from collections.abc import Iterator

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.interface import Format, Probe
from regraft.package.formats.numpy import read_header
from regraft.package.formats.pickle_machine import read_pickle, read_pickles
from regraft.package.formats.pickle_values import Call, Global, PickleStream, Value
from regraft.package.reader import Reader

PICKLE_FORMATS = frozenset({"pickle", "torch-legacy", "joblib", "numpy"})
"""Names of the formats in which `pickle_streams` knows where streams begin."""

KEPT = "first stream"
"""Under which a probe keeps it."""
_KEPT_BYTES = 1 << 20
_TORCH_LEGACY_STREAMS = 5
_ITEM_BYTES = re.compile(r"[|<>=]?([?bBhHiIlLqQefdgFDGmMSUVaOcu])([0-9]*)")
_UNSIZED = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "l": 8, "L": 8, "q": 8, "Q": 8}
_UNSIZED |= {"e": 2, "f": 4, "d": 8, "g": 16, "F": 8, "D": 16, "G": 32, "m": 8, "M": 8, "c": 1}
_FLEXIBLE = frozenset("SUVa")
"""Kinds whose size numpy takes from the state of a dtype; it ignores the state's size of all others."""
_WRAPPER = ".NumpyArrayWrapper"


def first_stream(probe: Probe, *, max_opcodes: int) -> PickleStream:
    """The stream that a file begins with; kept with the probe where it is whole and the file is small.

    Raises:
        NetworkFailure, AccessDenied: as the reader does.
    """
    stream = read_pickle(probe.reader, max_opcodes=max_opcodes)
    if stream.complete and probe.reader.size <= _KEPT_BYTES:
        probe.__dict__[KEPT] = stream
    return stream


def pickle_streams(probe: Probe, format: Format | str) -> Iterator[tuple[int, PickleStream]]:  # noqa: A002
    """Offset and content of every pickle stream of a file, in the order in which its loader reads them.

    Args:
        probe: the file.
        format: its format or the name of it; nothing comes of a format that is not one of `PICKLE_FORMATS`.
    Raises:
        NetworkFailure, AccessDenied: as the reader does; damage is the `problem` of a stream.
        Damaged, LimitExceeded, MissingExtra: a compressed joblib file that cannot be expanded.
    """
    name = format if isinstance(format, str) else format.name
    reader = probe.reader
    if name == "pickle":
        streams = _following(reader, probe.__dict__.get(KEPT))
    elif name == "torch-legacy":
        streams = follow_torch_legacy(reader)
    elif name == "joblib":
        from regraft.package.formats.joblib import joblib_content

        streams = follow_joblib(joblib_content(reader))
    elif name == "numpy":
        streams = follow_numpy(reader)
    else:
        return
    for stream in streams:
        yield stream.offset, stream


def _following(reader: Reader, first: PickleStream | None) -> Iterator[PickleStream]:
    """All streams of a file of which the first may be known."""
    if first is None:
        yield from read_pickles(reader)
        return
    yield first
    if first.end_offset < reader.size:
        yield from read_pickles(reader, first.end_offset)


def follow_torch_legacy(reader: Reader, offset: int = 0, *, end: int | None = None) -> Iterator[PickleStream]:
    """Magic number, protocol version, system info, object, storage keys; raw storages follow and are no pickle."""
    for index, stream in enumerate(read_pickles(reader, offset, end=end)):
        yield stream
        if index + 1 == _TORCH_LEGACY_STREAMS:
            return


def follow_numpy(reader: Reader) -> Iterator[PickleStream]:
    """The stream behind the header of an array of objects; none for other arrays.

    Source: numpy.lib.format, versions 1.0 to 3.0.
    """
    head = reader.read_at(0, 12)
    if len(head) < 10 or head[:6] != b"\x93NUMPY":
        return
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + width], "little")
    start = 8 + width + length
    try:
        has_objects = read_header(reader).has_objects
    except (Damaged, LimitExceeded):
        has_objects = True  # numpy knows more spellings of an element type: see whether a pickle stands there
    if has_objects:
        yield read_pickle(reader, min(start, reader.size))


def follow_joblib(reader: Reader, *, offset: int = 0) -> Iterator[PickleStream]:
    """The stream that joblib reads from an uncompressed file, and those inside of its arrays of objects.

    joblib puts the raw bytes of an array right behind the BUILD of its `NumpyArrayWrapper`.
    Source: joblib.numpy_pickle 0.10 to 1.6.
    """
    arrays = _Arrays(reader)
    outer = read_pickle(reader, offset, raw_bytes=arrays.raw_bytes)
    yield outer
    yield from arrays.nested


class _Arrays:
    """Sizes of the arrays behind the wrappers of one stream."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._met: set[int] = set()
        self.nested: list[PickleStream] = []

    def raw_bytes(self, wrapper: Call, offset: int) -> int:
        """Bytes of the array that follows a finished wrapper, its padding included; 0 for any other object.

        Raises:
            Damaged: a wrapper as joblib never writes it, of which joblib and this machine may read unlike lengths.
        """
        if not wrapper.path.endswith(_WRAPPER):
            if any(isinstance(part, Global) and part.path.endswith(_WRAPPER) for part in wrapper.arguments):
                raise Damaged("an array wrapper that is made in an unusual way")
            return 0
        if id(wrapper) in self._met:
            raise Damaged("an array wrapper that is built twice")
        self._met.add(id(wrapper))
        item_bytes = item_size_bytes(wrapper.attribute("dtype"))
        shape = wrapper.attribute("shape")
        if item_bytes is None:
            stream = read_pickle(self._reader, offset)
            self.nested.append(stream)
            if not stream.stopped:
                raise Damaged("an array of objects breaks off")
            return stream.end_offset - offset
        count = 1
        for extent in shape if isinstance(shape, tuple) and len(shape) <= 64 else (-1,):
            if not isinstance(extent, int) or extent < 0 or extent > self._reader.size:
                raise Damaged("an array without a usable shape")
            count *= extent
        padding = 0
        if wrapper.attribute("numpy_array_alignment_bytes") is not None:
            first = self._reader.read_at(offset, 1)
            padding = 1 + (first[0] if first else 0)
        return padding + count * item_bytes


def item_size_bytes(dtype: Value) -> int | None:
    """Bytes of an element of a pickled `numpy.dtype`; None when it holds Python objects.

    Raises:
        Damaged: not a dtype, or one of unknown size.
    """
    if isinstance(dtype, Call) and dtype.path == "numpy.dtype" and dtype.arguments:
        state = dtype.state
        declared = state[5] if isinstance(state, tuple) and len(state) > 5 else -1
        flags = state[7] if isinstance(state, tuple) and len(state) > 7 else 0
        match = _ITEM_BYTES.fullmatch(code) if isinstance(code := dtype.arguments[0], str) else None
        if match:
            kind, digits = match[1], match[2]
            if kind == "V" and isinstance(state, tuple) and len(state) < 8 and any(state[2:5]):
                raise Damaged("a structured element type without flags")
            if kind == "O" or (isinstance(flags, int) and flags & 1):
                return None
            if isinstance(declared, int) and declared >= 0 and kind in _FLEXIBLE:
                return declared
            if digits and len(digits) < 10:
                return int(digits) * (4 if kind == "U" else 1)
            if kind in _UNSIZED:
                return _UNSIZED[kind]
    raise Damaged("an array whose element size is not known")
