"""Numbers of the pickle opcodes, the machine's handler for each, and the size of fixed arguments.

Source: PEP 307, PEP 3154, PEP 574; CPython Lib/pickletools.py.
"""

from __future__ import annotations

OPCODES: dict[int, str] = {
    ord("("): "mark",
    ord("."): "stop",
    ord("0"): "pop",
    ord("1"): "pop_mark",
    ord("2"): "dup",
    ord("F"): "float_line",
    ord("I"): "int_line",
    ord("J"): "binint",
    ord("L"): "long_line",
    ord("M"): "binint2",
    ord("N"): "none",
    ord("P"): "persid_line",
    ord("Q"): "binpersid",
    ord("R"): "reduce",
    ord("S"): "string_line",
    ord("T"): "binstring",
    ord("U"): "short_binstring",
    ord("V"): "unicode_line",
    ord("X"): "binunicode",
    ord("a"): "append",
    ord("b"): "build",
    ord("c"): "global_",
    ord("d"): "dict_",
    ord("}"): "empty_dict",
    ord("e"): "appends",
    ord("g"): "get_line",
    ord("i"): "inst",
    ord("l"): "list_",
    ord("]"): "empty_list",
    ord("o"): "obj",
    ord("p"): "put_line",
    ord("s"): "setitem",
    ord("t"): "tuple_",
    ord(")"): "empty_tuple",
    ord("u"): "setitems",
    ord("G"): "binfloat",
    0x80: "proto",
    0x81: "newobj",
    0x82: "ext1",
    0x83: "ext2",
    0x84: "ext4",
    0x85: "tuple1",
    0x86: "tuple2",
    0x87: "tuple3",
    0x88: "true",
    0x89: "false",
    0x8A: "long1",
    0x8B: "long4",
    ord("B"): "binbytes",
    ord("C"): "short_binbytes",
    0x8C: "short_binunicode",
    0x8D: "binunicode8",
    0x8E: "binbytes8",
    0x8F: "empty_set",
    0x90: "appends",
    0x91: "frozenset_",
    0x92: "newobj_ex",
    0x93: "stack_global",
    0x94: "memoize",
    0x95: "frame",
    0x96: "bytearray8",
    0x97: "next_buffer",
    0x98: "readonly_buffer",
}
"""Opcode → name of its handler in the machine (ADDITEMS is APPENDS on a set).

Without BININT1, BINPUT, LONG_BINPUT, BINGET and LONG_BINGET, which the loop of the machine executes itself.
"""

FIXED_ARGUMENT_BYTES: dict[int, int] = {
    **dict.fromkeys(b"KqhUC\x80\x82\x8a\x8c", 1),
    **dict.fromkeys(b"M\x83", 2),
    **dict.fromkeys(b"JrjTXB\x84\x8b", 4),
    **dict.fromkeys(b"G\x8d\x8e\x95\x96", 8),
}
"""Bytes that an opcode's argument takes at least: the whole of a number, the length field of a string."""
