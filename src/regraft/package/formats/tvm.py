"""Libraries that Apache TVM compiled of a network: an ELF file with TVM's symbols, and what it says of itself.

Source: System V ABI, chapter 4 (ELF header and sections); apache-tvm-ffi, c_api.h (symbols of a library). The section
`.regraft` is ours: TVM keeps neither the names of inputs nor the processor that it compiled for.
"""

from __future__ import annotations

import struct

import msgspec

from regraft.errors import Damaged
from regraft.package.formats.elf import symbol_names
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role
from regraft.package.reader import Reader

SECTION = ".regraft"
"""Section that holds what `Stated` says, as JSON."""

_SYMBOLS = (  # names may share their ends with longer ones
    b"__tvm_ffi__library_bin\0",
    b"__tvm_ffi__library_ctx\0",
    b"__tvm_dev_mblob\0",
    b"__tvm_module_ctx\0",
)
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_ELF64_LITTLE = b"\x7fELF\x02\x01"
_MAX_SECTIONS = 256
_MAX_NAMES_BYTES = 16 << 10
_MAX_STATED_BYTES = 1 << 20
_MAX_FACT_CHARS = 500


class Target(msgspec.Struct, frozen=True):
    """The processor that a library was compiled for.

    Attributes:
        triple: LLVM's name of architecture, system and calling convention.
        cpu: LLVM's name of the processor.
        features: instruction sets that the code may use, as Linux names them in /proc/cpuinfo.
    """

    triple: str
    cpu: str
    features: tuple[str, ...] = ()


class Stated(msgspec.Struct, frozen=True):
    """What a library says of itself, be it true or not: its target, and its ports as (name, dtype, shape)."""

    target: Target
    inputs: tuple[tuple[str, str, tuple[int | str | None, ...] | None], ...] = ()
    outputs: tuple[tuple[str, str, tuple[int | str | None, ...] | None], ...] = ()


class TvmLibrary:
    """Format `tvm`."""

    name = "tvm"
    title = "TVM compiled library"
    role = Role.CODE
    loading = Loading.CODE
    suffixes = (".so",)

    def matches(self, probe: Probe) -> bool:
        """An ELF file whose dynamic symbols have one that every library of TVM's exports, whatever its sections say."""
        names = symbol_names(probe)
        return any(symbol in names for symbol in _SYMBOLS)

    def describe(self, probe: Probe) -> Description:
        """Its target and its ports, where a conversion of Regraft's wrote them down."""
        text = stated_in(probe.reader, probe.head)
        if not text:
            return Description()
        try:
            stated = read_stated(text, probe.name)
        except Damaged as damage:
            return Description(problems=(Problem(damage.what),))
        target = f"{stated.target.triple} {stated.target.cpu}"
        inputs, outputs = (tuple(Port(*end) for end in ends) for ends in (stated.inputs, stated.outputs))
        return Description(inputs=inputs, outputs=outputs, metadata={"target": target[:_MAX_FACT_CHARS]})


def stated_in(reader: Reader, head: bytes | None = None) -> bytes:
    """What a library says of itself, as it was written; empty where it says nothing.

    Args:
        reader: the library.
        head: its first bytes, where they were read already.
    """
    probe = Probe(reader, reader.where)
    if head is not None:
        probe.head = head
    offset, size = _sections(probe).get(SECTION, (0, 0))
    return reader.read_at(offset, min(size, _MAX_STATED_BYTES)).rstrip(b"\0")


def read_stated(text: bytes, where: str) -> Stated:
    """Parse it.

    Raises:
        Damaged: it is something else.
    """
    try:
        return msgspec.json.decode(text, type=Stated)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        said = str(error)[:200]
        raise Damaged(f"what it says of its own target cannot be read: {said}", where=where) from None


def _sections(probe: Probe) -> dict[str, tuple[int, int]]:
    """Section → where it lies in the file, and its size in bytes; empty for what is no ELF file of 64 bits."""
    head = probe.head
    if not head.startswith(_ELF64_LITTLE) or len(head) < _HEADER.size:
        return {}
    fields = _HEADER.unpack_from(head)
    at, entry_size, count, names_at = fields[6], fields[11], fields[12], fields[13]
    if entry_size != _SECTION.size or not names_at < count <= _MAX_SECTIONS:
        return {}
    table = probe.reader.read_at(at, count * entry_size)
    if len(table) < count * entry_size:
        return {}
    rows = list(_SECTION.iter_unpack(table))
    names = probe.reader.read_at(rows[names_at][4], min(rows[names_at][5], _MAX_NAMES_BYTES))
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        name = names[row[0] :].split(b"\0", 1)[0].decode("latin-1")
        found.setdefault(name, (row[4], row[5]))
    return found
