"""joblib's files: a pickle with the bytes of arrays between its opcodes, plain or compressed.

Source: joblib 1.6, joblib/numpy_pickle.py (`NumpyUnpickler`), numpy_pickle_utils.py, numpy_pickle_compat.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from regraft.package.compression import Codec, expand, peek, sniff
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.formats.pickle_streams import follow_joblib
from regraft.package.formats.pickle_tensors import arrays_of
from regraft.package.formats.pickle_values import Call
from regraft.package.reader import Reader

_WRAPPERS = (b"NumpyArrayWrapper", b"NDArrayWrapper")
_SEARCHED_BYTES = 64 << 20
_OLD_PREFIX = b"ZF0x"
_OLD_HEADER_BYTES = 21
"""`ZF` and the expanded length in hexadecimal, padded to 19 characters; some versions wrote one blank more."""
_PEEKED_BYTES = 64


class Joblib:
    """What `joblib.dump` writes: models of scikit-learn and friends."""

    name = "joblib"
    title = "joblib pickle"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".joblib", ".pkl", ".jl", ".lz4", ".gz", ".z", ".bz2", ".xz", ".lzma")

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`: a pickle that names joblib's array wrapper, or any pickle in a compression."""
        if is_pickle_head(probe.head):
            return _names_wrapper(probe)
        found = _compression(probe.reader)
        if found is None:
            return False
        content = peek(*found, _PEEKED_BYTES)
        return is_pickle_head(content) or (probe.head.startswith(_OLD_PREFIX) and content != b"")

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`. A compressed file is expanded whole, bounded."""
        content = joblib_content(probe.reader)
        stream, *nested = follow_joblib(content)
        arrays = arrays_of(stream.root)
        tensors: list[Tensor] = list(arrays.tensors)
        problems = [s.problem for s in (stream, *nested) if s.problem is not None]
        if stream.stopped and stream.end_offset < content.size:
            what = f"{content.size - stream.end_offset} bytes follow the pickle"
            problems.append(Problem(what, stream.end_offset, None, "trailing-data"))
        found = _compression(probe.reader)
        classes = sorted({call.path for call in stream.calls if call.kind != "build"})
        return Description(
            version=str(stream.protocol),
            tensors=tuple(tensors),
            parameters=arrays.parameters if arrays.parameters != sum(t.elements for t in tensors) else None,
            metadata={
                "compression": found[1].value if found else "none",
                "object": stream.root.path if isinstance(stream.root, Call) else type(stream.root).__name__,
                "classes": ", ".join(classes)[:2000],
            },
            problems=(*problems, *arrays.problems),
        )


def joblib_content(reader: Reader) -> Reader:
    """The pickle of a joblib file, expanded where it is compressed.

    Raises:
        Damaged, LimitExceeded, MissingExtra: as `compression.expand`.
    """
    found = _compression(reader)
    return reader if found is None else expand(*found).reader


def is_pickle_head(head: bytes) -> bool:
    """Does this begin like a pickle of protocol 2 to 5?"""
    return len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _compression(reader: Reader) -> tuple[Reader, Codec] | None:
    head = reader.read_at(0, 32)
    if head.startswith(_OLD_PREFIX) and reader.size > _OLD_HEADER_BYTES:
        start = _OLD_HEADER_BYTES + (head[_OLD_HEADER_BYTES] == ord(" "))
        return reader.section(start, reader.size - start), Codec.ZLIB
    codec = sniff(head)
    return None if codec is None else (reader, codec)


def _names_wrapper(probe: Probe) -> bool:
    if any(name in probe.head for name in _WRAPPERS):
        return True
    if probe.reader.size > _SEARCHED_BYTES:
        return False
    return any(name in window for window in _windows(probe.reader) for name in _WRAPPERS)


def _windows(reader: Reader) -> Iterator[bytes]:
    tail = b""
    for chunk in reader.chunks():
        yield tail + chunk
        tail = chunk[-32:]
