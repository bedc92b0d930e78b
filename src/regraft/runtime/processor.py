"""The processor at hand, and whether code that was compiled for another one runs here."""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Collection
from pathlib import Path

_X86 = {
    "sse3": "pni", "ssse3": "ssse3", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "sse4a": "sse4a", "popcnt": "popcnt",
    "cx16": "cx16", "movbe": "movbe", "lzcnt": "abm", "bmi": "bmi1", "bmi2": "bmi2", "adx": "adx", "aes": "aes",
    "pclmul": "pclmulqdq", "sha": "sha_ni", "rdrnd": "rdrand", "rdseed": "rdseed", "gfni": "gfni", "vaes": "vaes",
    "vpclmulqdq": "vpclmulqdq", "fma4": "fma4", "xop": "xop", "tbm": "tbm", "avx": "avx", "f16c": "f16c", "fma": "fma",
    "avx2": "avx2", "avxvnni": "avx_vnni", "avxifma": "avx_ifma", "avxvnniint8": "avx_vnni_int8",
    "avxneconvert": "avx_ne_convert", "avx512f": "avx512f", "avx512cd": "avx512cd", "avx512dq": "avx512dq",
    "avx512bw": "avx512bw", "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi",
    "avx512vbmi2": "avx512_vbmi2", "avx512vnni": "avx512_vnni", "avx512bitalg": "avx512_bitalg",
    "avx512vpopcntdq": "avx512_vpopcntdq", "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16",
    "avx512vp2intersect": "avx512_vp2intersect", "amx-tile": "amx_tile", "amx-int8": "amx_int8",
    "amx-bf16": "amx_bf16", "amx-fp16": "amx_fp16",
}  # fmt: skip
_ARM = {
    "fp-armv8": "fp", "neon": "asimd", "aes": "aes", "sha2": "sha2", "sha3": "sha3", "crc": "crc32", "lse": "atomics",
    "rdm": "asimdrdm", "fullfp16": "fphp", "fp16fml": "asimdfhm", "dotprod": "asimddp", "jsconv": "jscvt",
    "complxnum": "fcma", "rcpc": "lrcpc", "bf16": "bf16", "i8mm": "i8mm", "sve": "sve", "sve2": "sve2",
}  # fmt: skip
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_FLAGS = re.compile(r"^(?:flags|Features)\s*:(.*)$", re.MULTILINE)

INSTRUCTION_SETS = {"x86_64": _X86, "aarch64": _ARM}
"""Architecture → feature as LLVM names it → as Linux does: those whose instructions a compiler emits by itself."""


def architecture(name: str | None = None) -> str:
    """An architecture under one name: `x86_64`, `aarch64`, …; None for that of this machine."""
    found = (platform.machine() if name is None else name).lower()
    return _ARCHITECTURES.get(found, found)


@functools.cache
def instruction_sets() -> frozenset[str]:
    """What this processor has, as Linux names it; what a hypervisor hides is not there. Empty where nobody says so."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = _FLAGS.search(text)
    return frozenset(found.group(1).split()) if found else frozenset()


def why_not_here(triple: str, features: Collection[str]) -> str:
    """Why code for this target does not run here, in words; empty where it does.

    Args:
        triple: LLVM's name of architecture and system.
        features: instruction sets that the code may use, as Linux names them.
    """
    theirs, ours = architecture(triple.partition("-")[0]), architecture()
    if theirs != ours:
        return f"this machine is {ours}, not {theirs}"
    if platform.system().lower() not in triple.replace("apple", "darwin"):
        return f"this system is {platform.system()}"
    lacking = sorted(set(features) - instruction_sets())
    return f"this processor lacks {', '.join(lacking)}" if lacking else ""
