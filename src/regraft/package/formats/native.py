"""Compiled code: native libraries and programs, WebAssembly, Java classes, Python bytecode."""

from __future__ import annotations

from regraft.package.formats.interface import Description, Loading, Probe, Role

_MACHINES = {0x03: "x86", 0x28: "arm", 0x3E: "x86_64", 0xB7: "aarch64", 0xF3: "riscv", 0x15: "ppc64", 0x16: "s390x"}
_PE_MACHINES = {0x14C: "x86", 0x8664: "x86_64", 0xAA64: "aarch64", 0x1C0: "arm"}
_MACHO = (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xfe\xed\xfa\xce")
_FAT = b"\xca\xfe\xba\xbe"
_MAX_FAT_ARCHITECTURES = 30
_PYC_SUFFIX = b"\r\n"
_PYC_MAGIC_MIN, _PYC_MAGIC_MAX = 3000, 4000  # Python 3.0 to beyond 3.15


class NativeCode:
    """Format `native-code`: ELF, PE, Mach-O, WebAssembly, Java class files, static archives."""

    name = "native-code"
    title = "compiled code"
    role = Role.CODE
    loading = Loading.CODE
    suffixes = (".so", ".dll", ".pyd", ".exe", ".dylib", ".o", ".a", ".lib", ".wasm", ".class")

    def matches(self, probe: Probe) -> bool:
        """The signature of one of them."""
        return bool(_facts(probe))

    def describe(self, probe: Probe) -> Description:
        """Kind and machine."""
        return Description(metadata=_facts(probe))


class PythonBytecode:
    """Format `python-bytecode`."""

    name = "python-bytecode"
    title = "Python bytecode"
    role = Role.CODE
    loading = Loading.CODE
    suffixes = (".pyc", ".pyo")

    def matches(self, probe: Probe) -> bool:
        """A magic number of Python 3, CR LF, known flags, and a marshalled code object."""
        head = probe.head
        magic = int.from_bytes(head[:2], "little")
        if len(head) < 17 or head[2:4] != _PYC_SUFFIX or not _PYC_MAGIC_MIN <= magic < _PYC_MAGIC_MAX:
            return False
        return any(len(head) > at and head[at] & 0x7F == ord("c") for at in (12, 16))

    def describe(self, probe: Probe) -> Description:
        """Only the magic number: which Python it is for."""
        return Description(version=str(int.from_bytes(probe.head[:2], "little")))


def _facts(probe: Probe) -> dict[str, str]:
    """Kind and machine; empty when it is none."""
    head = probe.head
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        order = "big" if head[5] == 2 else "little"
        return {"kind": "elf", "machine": _machine(_MACHINES, int.from_bytes(head[18:20], order))}  # type: ignore[arg-type]
    if head[:2] == b"MZ" and len(head) >= 64:
        at = int.from_bytes(head[60:64], "little")
        signature = probe.reader.read_at(at, 6)
        if signature[:4] == b"PE\x00\x00":
            return {"kind": "pe", "machine": _machine(_PE_MACHINES, int.from_bytes(signature[4:6], "little"))}
        return {}
    if head[:4] in _MACHO:
        return {"kind": "mach-o"}
    if head[:4] == _FAT and len(head) >= 8:
        count = int.from_bytes(head[4:8], "big")  # of architectures; a Java class has its version there
        return {"kind": "mach-o universal" if 0 < count < _MAX_FAT_ARCHITECTURES else "java class"}
    if head[:8] == b"\x00asm\x01\x00\x00\x00":
        return {"kind": "webassembly"}
    return {"kind": "static library"} if head[:8] == b"!<arch>\n" else {}


def _machine(names: dict[int, str], number: int) -> str:
    return names.get(number, f"machine {number}")
