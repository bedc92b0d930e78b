"""IDX arrays: the format of the MNIST family of datasets."""

from __future__ import annotations

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Role, Tensor

_DTYPES = {
    0x08: ("uint8", 1),
    0x09: ("int8", 1),
    0x0B: ("int16", 2),
    0x0C: ("int32", 4),
    0x0D: ("float32", 4),
    0x0E: ("float64", 8),
}
_MAX_RANK = 8


class Idx:
    """Format `idx`."""

    name = "idx"
    title = "IDX array"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (".idx", ".idx1-ubyte", ".idx3-ubyte")

    def matches(self, probe: Probe) -> bool:
        """Two zero bytes, a dtype, a rank, and extents that add up to the size of the file exactly."""
        array = _array(probe)
        return array is not None and array[0].size_bytes == probe.reader.size - array[1]

    def describe(self, probe: Probe) -> Description:
        """The one array.

        Raises:
            Damaged: the header is none.
        """
        array = _array(probe)
        if array is None:
            raise Damaged("not an IDX header", where=probe.reader.where)
        tensor = array[0]
        return Description(metadata={"dtype": tensor.dtype, "shape": " × ".join(map(str, tensor.shape))})


def _array(probe: Probe) -> tuple[Tensor, int] | None:
    """The array that the header declares, and the size of the header."""
    head = probe.head
    if len(head) < 8 or head[:2] != b"\x00\x00" or head[2] not in _DTYPES or not 1 <= head[3] <= _MAX_RANK:
        return None
    header_bytes = 4 + 4 * head[3]
    shape = tuple(int.from_bytes(head[begin : begin + 4], "big") for begin in range(4, header_bytes, 4))
    dtype, size = _DTYPES[head[2]]
    for extent in shape:
        size *= extent
    return Tensor(probe.basename, dtype, shape, size), header_bytes
