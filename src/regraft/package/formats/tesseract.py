"""Tesseract's language models (`.traineddata`): a directory of offsets to components.

Source: tesseract/ccutil/tessdatamanager.h: an i32 count, then that many i64 offsets, -1 for a missing component.
"""

from __future__ import annotations

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Role

_COMPONENTS = (
    "lang-config", "unicharset", "unicharambigs", "inttemp", "pffmtable", "normproto", "punc-dawg", "word-dawg",
    "number-dawg", "freq-dawg", "fixed-length-dawgs", "cube-unicharset", "cube-word-dawg", "shapetable",
    "bigram-dawg", "unambig-dawg", "params-model", "lstm", "lstm-punc-dawg", "lstm-word-dawg", "lstm-number-dawg",
    "lstm-unicharset", "lstm-recoder", "version",
)  # fmt: skip
_MIN_COMPONENTS, _MAX_COMPONENTS = 12, 64


class TrainedData:
    """Format `tesseract-traineddata`."""

    name = "tesseract-traineddata"
    title = "Tesseract language model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".traineddata",)

    def matches(self, probe: Probe) -> bool:
        """A plausible count, and offsets that rise from the end of the directory within the file."""
        return _offsets(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Which components are there."""
        offsets = _offsets(probe)
        if offsets is None:
            raise Damaged("not a traineddata directory", where=probe.reader.where)
        names = [
            _COMPONENTS[index] if index < len(_COMPONENTS) else f"component {index}"
            for index, offset in enumerate(offsets)
            if offset >= 0
        ]
        return Description(metadata={"components": ", ".join(names)})


def _offsets(probe: Probe) -> tuple[int, ...] | None:
    head = probe.head
    count = int.from_bytes(head[:4], "little")
    end = 4 + 8 * count
    if not _MIN_COMPONENTS <= count <= _MAX_COMPONENTS or len(head) < end:
        return None
    offsets = tuple(int.from_bytes(head[begin : begin + 8], "little", signed=True) for begin in range(4, end, 8))
    present = [offset for offset in offsets if offset != -1]
    if not present or present[0] != end or present != sorted(set(present)) or present[-1] >= probe.reader.size:
        return None
    return offsets
