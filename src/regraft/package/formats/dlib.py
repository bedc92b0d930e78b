"""dlib's serialised networks and shape predictors (`.dat`), recognised by how their first values are written.

Source: dlib/serialize.h: an integer is a byte of its size (bit 7: the sign), then its bytes, little-endian.
"""

from __future__ import annotations

from regraft.errors import Damaged
from regraft.package.formats.cursor import Cursor
from regraft.package.formats.interface import Description, Loading, Probe, Role

_MAX_LANDMARKS = 10_000


class Dlib:
    """Format `dlib`. Tensors are not listed: the file has no directory of them."""

    name = "dlib"
    title = "dlib model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".dat",)

    def matches(self, probe: Probe) -> bool:
        """A version, then the tag of a loss layer or the extents of a mean shape."""
        return _kind(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """What kind of model it is."""
        kind = _kind(probe)
        if kind is None:
            raise Damaged("not a dlib model", where=probe.reader.where)
        return Description(version=str(kind[0]), metadata={"kind": kind[1]} | kind[2])


def _kind(probe: Probe) -> tuple[int, str, dict[str, str]] | None:
    raw = Cursor(probe.head[:80])
    try:
        version, second = _integer(raw), _integer(raw)
        if not 1 <= version <= 20:
            return None
        if 6 <= second <= 40:
            tag = raw.take(second)
            if tag.startswith(b"loss_") and tag.isascii():
                return version, "network", {"loss": tag.decode("ascii")}
        elif second < 0 and second % 2 == 0 and -second <= 2 * _MAX_LANDMARKS and _integer(raw) == -1:
            return version, "shape predictor", {"landmarks": str(-second // 2)}
    except Damaged:
        return None
    return None


def _integer(raw: Cursor) -> int:
    control = raw.uint(1)
    size = control & 0x0F
    if size > 8 or control & 0x70:
        raise Damaged("not an integer as dlib writes them")
    value = raw.uint(size)
    return -value if control & 0x80 else value
