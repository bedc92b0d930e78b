"""Files without a format of their own: numbers that another file of the package describes."""

from __future__ import annotations

import array
import posixpath
import re
import sys
from collections.abc import Iterator, Sequence

from regraft.package.formats import Description
from regraft.package.reader import Reader
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.entrypoints import configuration, path_of
from regraft.trust.scan.interface import Site
from regraft.trust.scan.onnx import external_files

_SAMPLE_BYTES = 64 << 10
_HEADER_BYTES = 64
_TEXT_BYTES = 4 << 20
_ORDINARY_SHARE = 0.995
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_TENSOR_BUNDLE = re.compile(r"(?P<stem>.+)\.data-\d{5}-of-\d{5}$")


def raw_files(sites: Sequence[Site]) -> frozenset[str]:
    """Paths of files that a loader reads as plain numbers, because a file beside them says where and how.

    These are shards of TensorFlow.js manifests, external data of ONNX models, the weights beside a
    graph of OpenVINO or ncnn, and the data of a TensorFlow checkpoint. Nothing in such a file is ever interpreted.
    """
    paths = {path_of(site) for site in sites}
    found: set[str] = set()
    for site in sites:
        folder = posixpath.dirname(path_of(site))
        found.update(posixpath.normpath(posixpath.join(folder, name)) for name in _described(site))
    for path in paths:
        match = _TENSOR_BUNDLE.match(path)
        if match and f"{match['stem']}.index" in paths:
            found.add(path)
    return frozenset(found & paths)


def looks_like_numbers(reader: Reader) -> bool:
    """Are the bytes little-endian float32 values of ordinary magnitude, at the head, in the middle and at the end?

    Zero, and magnitudes from 2⁻⁴⁰ to 2²⁰, are ordinary. Of random or compressed bytes, text and machine code
    at most a third are, of trained weights and statistics more than 99.5 %. The first 64 bytes must all be, as a
    header would stand there; zeros alone say nothing.
    """
    size = reader.size
    if size % 4 or size == 0 or _ordinary_share(reader.read_at(0, _HEADER_BYTES)) < 1:
        return False
    length = min(size, _SAMPLE_BYTES)
    samples = [reader.read_at(start, length) for start in sorted({0, (size - length) // 8 * 4, size - length})]
    is_blank = size > _SAMPLE_BYTES and not any(map(any, samples))
    return not is_blank and all(_ordinary_share(sample) >= _ORDINARY_SHARE for sample in samples)


def _ordinary_share(data: bytes) -> float:
    numbers = array.array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    ordinary = sum(1 for number in numbers if number == 0 or 2.0**-40 <= abs(number) <= 2.0**20)
    return ordinary / len(numbers)


def is_text_of_another_encoding(reader: Reader) -> bool:
    """Is this UTF-16 with its mark, or an 8-bit encoding without control characters that is mostly ASCII?"""
    if reader.size > _TEXT_BYTES:
        return False
    data = reader.read_all(limit=_TEXT_BYTES)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return "\x00" not in data.decode("utf-16")
        except UnicodeDecodeError:
            return False
    return not _CONTROL.search(data) and sum(byte < 128 for byte in data) >= 0.8 * len(data)


def _described(site: Site) -> Iterator[str]:
    kind = site.format.name if site.format is not None else ""
    if kind.startswith("openvino"):
        stem = posixpath.basename(path_of(site)).rsplit(".", 1)[0]
        yield f"{stem}.bin"
    elif kind in ("ncnn-param", "ncnn-param-binary"):
        yield f"{posixpath.basename(path_of(site)).removesuffix('.bin').removesuffix('.param')}.bin"
    elif kind == "onnx":
        description = description_of(site)
        if isinstance(description, Description):
            yield from external_files(description)
    elif site.probe.suffix == ".json":
        yield from _manifest_paths(site)


def _manifest_paths(site: Site) -> Iterator[str]:
    content = configuration(site)
    groups = content.get("weightsManifest") if isinstance(content, dict) else content
    for group in groups if isinstance(groups, list) else ():
        names = group.get("paths") if isinstance(group, dict) else None
        yield from (name for name in names or () if isinstance(name, str))
