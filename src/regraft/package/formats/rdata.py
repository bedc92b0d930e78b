"""R's saved objects: `.rda`/`.RData` workspaces and `.rds` objects, compressed or not.

Source: R Internals, section 1.8. Reading them can run code: an object may hold promises and functions (CVE-2024-27322).
"""

from __future__ import annotations

import bz2
import lzma
import zlib

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Role

_BLOCK_BYTES = 1 << 20
_WORKSPACES = (b"RDX2\n", b"RDX3\n", b"RDA2\n", b"RDA3\n", b"RDB2\n", b"RDB3\n")


class RData:
    """Format `rdata`."""

    name = "rdata"
    title = "R data"
    role = Role.DATA
    loading = Loading.CODE
    suffixes = (".rda", ".rdata", ".rds")

    def matches(self, probe: Probe) -> bool:
        """The head of a workspace or a serialised object, below gzip, bzip2 or xz."""
        return _kind(_first_bytes(probe)[1]) is not None

    def describe(self, probe: Probe) -> Description:
        """Kind, version of the serialisation, and compression."""
        compression, first = _first_bytes(probe)
        kind = _kind(first)
        if kind is None:
            raise Damaged("not R data", where=probe.reader.where)
        return Description(version=kind[1], metadata={"kind": kind[0], "compression": compression})


def _kind(first: bytes) -> tuple[str, str] | None:
    """Workspace or object, and the version of the serialisation."""
    if first[:5] in _WORKSPACES:
        return "workspace", first[3:4].decode("ascii")
    if first[:2] == b"X\n" and first[2:6] in (b"\x00\x00\x00\x02", b"\x00\x00\x00\x03"):
        return "object", str(first[5])
    if first[:4] in (b"A\n2\n", b"A\n3\n"):
        return "object", first[2:3].decode("ascii")
    return None


def _first_bytes(probe: Probe) -> tuple[str, bytes]:
    """Compression, and up to 16 bytes below it."""
    head = probe.head
    try:
        if head[:2] == b"\x1f\x8b":
            return "gzip", zlib.decompressobj(wbits=31).decompress(head, 16)
        if head[:6] == b"\xfd7zXZ\x00":
            return "xz", lzma.LZMADecompressor(memlimit=256 << 20).decompress(_more(probe), 16)
        if head[:3] == b"BZh":
            return "bzip2", bz2.BZ2Decompressor().decompress(_more(probe), 16)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError):
        return "none", b""
    return "none", head[:16]


def _more(probe: Probe) -> bytes:
    """Enough for one block: bzip2 and xz give nothing out before it is complete."""
    return probe.reader.read_at(0, _BLOCK_BYTES)
