"""IREE modules (`.vmfb`): bytecode and native code that a compiler made of a network, as a zip of stored members.

Source: IREE 3.13, runtime/src/iree/vm/bytecode/archive.c: the first member is `module.fb`, a flatbuffer with its size.
"""

from __future__ import annotations

from regraft.errors import Damaged
from regraft.package.archive import Archive
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role

_MODULE = "module.fb"
_LIBRARIES = (".so", ".dll", ".dylib", ".sys", ".spv", ".ptx", ".hsaco", ".metallib", ".wasm")
_MAX_FACT_CHARS = 2000


class IreeModule:
    """Format `iree`."""

    name = "iree"
    title = "IREE compiled module"
    role = Role.CODE
    loading = Loading.CODE
    suffixes = (".vmfb",)

    def matches(self, probe: Probe) -> bool:
        """A zip whose first member is stored and is called as the bytecode is."""
        head = probe.head
        length = int.from_bytes(head[26:28], "little")
        return head.startswith(b"PK\x03\x04") and head[8:10] == b"\0\0" and head[30 : 30 + length] == _MODULE.encode()

    def describe(self, probe: Probe) -> Description:
        """The libraries inside.

        Raises:
            Damaged: its directory cannot be read.
        """
        archive = probe.zip
        if archive is None:
            raise Damaged("the directory of the module cannot be read", where=probe.name)
        libraries = [member.name for member in archive.members if member.name.endswith(_LIBRARIES)]
        problems = () if _MODULE in archive.by_name else (Problem(f"no member {_MODULE}"),)
        metadata = {"native_code": ", ".join(libraries)[:_MAX_FACT_CHARS]} if libraries else {}
        return Description(metadata=metadata, problems=problems)


def is_only_code(archive: Archive) -> bool:
    """Are its members what IREE's compiler writes, the bytecode and libraries? Any other zip can begin as one."""
    first, *others = [member.name for member in archive.members] or [""]
    return first == _MODULE and all(name.endswith(_LIBRARIES) for name in others)
