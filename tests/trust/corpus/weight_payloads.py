"""Programs in weights: as they are, between tensors, behind them, in low bytes and bits. Headers followed by text.

The programs are headers with nothing that could run behind them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import struct
from collections.abc import Iterator

import numpy as np
from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import zipped
from tests.trust.corpus.wire_writers import safetensors

_FILLER = b"".join(b"this stands where instructions would %d\n" % number for number in range(400))
SCRIPT = (
    b"import os, socket, subprocess\ns = socket.socket()\ns.connect(('127.0.0.1', 9))\n"
    b"subprocess.call(['/bin/sh', '-i'])\nexec(__import__('base64').b64decode('cHJpbnQoMSk='))\n"
)


def elf() -> bytes:
    """The header of an x86-64 executable, and text."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x401000, 64, 0, 0, 64, 56, 1, 64, 0, 0) + _FILLER


def pe() -> bytes:
    """The headers of a Windows executable, and text."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64)
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22)
    return dos + b"PE\0\0" + coff + b"\x0b\x02" + bytes(238) + _FILLER


def mach() -> bytes:
    """The header of an arm64 executable of macOS, and text."""
    return struct.pack("<IIIIIII", 0xFEEDFACF, 0x0100000C, 0, 2, 1, 72, 0) + bytes(4) + _FILLER


PROGRAMS = {
    "ELF": elf(),
    "Windows program": pe(),
    "Mach-O": mach(),
    "WebAssembly": b"\0asm\1\0\0\0\1\x04\1\x60\0\0" + _FILLER,
    "shell script": b"#!/bin/sh\nid\n" + _FILLER,
    "interpreter from env": b"#!/usr/bin/env python3\n" + SCRIPT,
    "Python": SCRIPT + _FILLER,
}


def weights(count: int = 65_536, *, seed: int = 0) -> np.ndarray:
    """What trained weights look like."""
    return np.random.default_rng(seed).normal(0, 0.02, count).astype("<f4")


def with_bytes(array: np.ndarray, payload: bytes, *, start: int = 4096) -> np.ndarray:
    """Numbers replaced by a payload as it is."""
    raw = array.copy().view(np.uint8)
    raw[start : start + len(payload)] = np.frombuffer(payload, np.uint8)
    return raw.view(array.dtype)


def with_low_bytes(array: np.ndarray, payload: bytes, columns: tuple[int, ...], *, start: int = 1000) -> np.ndarray:
    """Some bytes of each number replaced, in the order of `columns` (0 is the lowest)."""
    raw = array.copy().view(np.uint8).reshape(len(array), -1)
    payload += bytes(-len(payload) % len(columns))
    rows = len(payload) // len(columns)
    raw[start : start + rows, columns] = np.frombuffer(payload, np.uint8).reshape(rows, -1)
    return raw.ravel().view(array.dtype)


def with_bits(array: np.ndarray, payload: bytes, bit: int, *, order: str = "big", start: int = 1003) -> np.ndarray:
    """One bit of each number replaced."""
    words = array.copy().view("<u4")
    bits = np.unpackbits(np.frombuffer(payload, np.uint8), bitorder=order).astype(np.uint32)  # type: ignore[arg-type]
    part = words[start : start + len(bits)]
    part &= np.uint32(0xFFFFFFFF ^ 1 << bit)
    part |= bits << np.uint32(bit)
    return words.view("<f4")


def in_safetensors(array: np.ndarray, *, dtype: str = "F32", gap: bytes = b"", after: bytes = b"") -> bytes:
    """Two tensors, with something between and behind them."""
    data, first = array.tobytes(), weights(256).tobytes()
    begin = len(first) + len(gap)
    entries = {
        "first": {"dtype": "F32", "shape": [256], "data_offsets": [0, len(first)]},
        "layer.weight": {"dtype": dtype, "shape": [len(array)], "data_offsets": [begin, begin + len(data)]},
    }
    return safetensors(entries, first + gap + data + after)


def in_npy(array: np.ndarray, *, after: bytes = b"") -> bytes:
    """A .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue() + after


def in_torch(array: np.ndarray) -> bytes:
    """A checkpoint of one tensor, as torch.save lays it out: protocol 2, one storage."""
    count = struct.pack("<i", len(array))
    pickle = (
        b"\x80\x02}X\x06\0\0\0weightctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
        b"X\x01\0\0\x000X\x03\0\0\0cpuJ" + count + b"tQK\0J" + count + b"\x85K\x01\x85\x89}tRs."
    )
    members = {"archive/data.pkl": pickle, "archive/byteorder": b"little", "archive/data/0": array.tobytes()}
    return zipped({**members, "archive/version": b"3\n"})


def in_onnx(array: np.ndarray) -> bytes:
    """A model with one initializer."""
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, [len(array)])], [value("y", TensorProto.FLOAT, [len(array)])],
        [numpy_helper.from_array(array, "w")],
    )  # fmt: skip
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())


def in_gguf(array: np.ndarray, *, padding: bytes = b"") -> bytes:
    """A GGUF of version 3 with one float32 tensor, and bytes behind it."""
    out = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", 1) + b"w"
    out += struct.pack("<IQIQ", 1, len(array), 0, 0)
    return out + bytes(-len(out) % 32) + array.tobytes() + padding


def in_hdf5(array: np.ndarray) -> bytes:
    """One contiguous dataset."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("layer/kernel", data=array)
    return buffer.getvalue()


def samples() -> Iterator[Sample]:
    """By way of hiding."""
    for what, files in {**_as_it_is(), **_between(), **_low_bytes()}.items():
        yield Sample(f"weights/{what}", files)
    for what, files in _unproved().items():
        yield Sample(f"weights/{what}", files, kind="unclear")


def _as_it_is() -> dict[str, dict[str, bytes]]:
    found = {
        f"{what} in a tensor": {"model.safetensors": in_safetensors(with_bytes(weights(), program))}
        for what, program in PROGRAMS.items()
    }
    bad = with_bytes(weights(), PROGRAMS["ELF"])
    odd = with_bytes(weights(), PROGRAMS["Windows program"], start=4099)
    raw = np.frombuffer(PROGRAMS["ELF"], np.uint8)
    found |= {
        "ELF in a tensor of bytes": {"model.safetensors": in_safetensors(raw, dtype="U8")},
        "ELF in a torch checkpoint": {"pytorch_model.bin": in_torch(bad)},
        "Windows program in a torch checkpoint, not aligned": {"pytorch_model.bin": in_torch(odd)},
        "ELF in a numpy array": {"weights.npy": in_npy(bad)},
        "Python in a numpy array": {"weights.npy": in_npy(with_bytes(weights(), PROGRAMS["Python"]))},
        "ELF in an initializer of ONNX": {"model.onnx": in_onnx(bad)},
        "shell script in an initializer of ONNX": {
            "model.onnx": in_onnx(with_bytes(weights(), PROGRAMS["shell script"]))
        },
        "ELF in GGUF": {"model.gguf": in_gguf(bad)},
        "Mach-O in GGUF": {"model.gguf": in_gguf(with_bytes(weights(), PROGRAMS["Mach-O"]))},
        "ELF in an HDF5 dataset": {"model.h5": in_hdf5(bad)},
        "ELF in npz": {"weights.npz": zipped({"w.npy": in_npy(bad)})},
        "ELF in raw weights": {"weights.bin": bad.tobytes()},
    }
    return found


def _between() -> dict[str, dict[str, bytes]]:
    program = PROGRAMS["ELF"] + bytes(-len(PROGRAMS["ELF"]) % 8)
    script = PROGRAMS["shell script"]
    torch = in_torch(weights())
    end = torch.index(b"PK\x01\x02")
    return {
        "ELF between tensors": {"model.safetensors": in_safetensors(weights(), gap=program)},
        "ELF behind the tensors": {"model.safetensors": in_safetensors(weights(), after=program)},
        "shell script behind the tensors": {"model.safetensors": in_safetensors(weights(), after=script)},
        "Python behind the tensors": {"model.safetensors": in_safetensors(weights(), after=SCRIPT)},
        "ELF behind a numpy array": {"weights.npy": in_npy(weights(), after=program)},
        "ELF behind a torch checkpoint": {"pytorch_model.bin": torch + program},
        "ELF between the members of a torch checkpoint": {"pytorch_model.bin": torch[:end] + program + torch[end:]},
        "ELF behind GGUF": {"model.gguf": in_gguf(weights(), padding=program)},
        "Windows program behind the members of a zip": {"m.zip": zipped({"a.txt": b"x"}) + PROGRAMS["Windows program"]},
    }


def _low_bytes() -> dict[str, dict[str, bytes]]:
    ways = {
        "three low bytes": (0, 1, 2),
        "three low bytes, highest first": (2, 1, 0),
        "two low bytes": (0, 1),
        "two low bytes, highest first": (1, 0),
        "lowest byte": (0,),
    }
    found = {}
    for what, columns in ways.items():
        for name in ("ELF", "Windows program", "interpreter from env"):
            array = with_low_bytes(weights(), PROGRAMS[name], columns)
            found[f"{name} in the {what}"] = {"model.safetensors": in_safetensors(array)}
    half = weights().astype("<f2")
    brain = (weights().view("<u4") >> 16).astype("<u2")
    program = elf()
    short = elf()[:2000]
    found |= {
        "ELF in the three low bytes, torch": {
            "pytorch_model.bin": in_torch(with_low_bytes(weights(), program, (2, 1, 0)))
        },
        "ELF in the low byte of float16": {
            "model.safetensors": in_safetensors(with_low_bytes(half, program, (0,)), dtype="F16")
        },
        "ELF in the low byte of bfloat16": {
            "model.safetensors": in_safetensors(with_low_bytes(brain, program, (0,)), dtype="BF16")
        },
        "ELF in the lowest bits": {"model.safetensors": in_safetensors(with_bits(weights(), short, 0))},
        "ELF in the lowest bits, other order": {
            "model.safetensors": in_safetensors(with_bits(weights(), short, 0, order="little"))
        },
        "ELF in the signs": {"model.safetensors": in_safetensors(with_bits(weights(), short, 31))},
        "ELF in the lowest bits, ONNX": {"model.onnx": in_onnx(with_bits(weights(), short, 0))},
    }
    return found


def _unproved() -> dict[str, dict[str, bytes]]:
    noise = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(6000))  # stands for encrypted data
    text = base64.b64encode(noise[:60_000])
    archive = zipped({"x.bin": noise[:1000]})
    return {
        "encrypted data in three low bytes": {
            "model.safetensors": in_safetensors(with_low_bytes(weights(200_000), noise, (0, 1, 2), start=65_536))
        },
        "base64 in two low bytes": {"model.safetensors": in_safetensors(with_low_bytes(weights(), text, (0, 1)))},
        "base64 in the lowest byte": {
            "model.safetensors": in_safetensors(with_low_bytes(weights(), text[:40_000], (0,)))
        },
        "text in three low bytes, torch": {
            "pytorch_model.bin": in_torch(with_low_bytes(weights(), _FILLER * 3, (0, 1, 2)))
        },
        "zip in a tensor": {"model.safetensors": in_safetensors(with_bytes(weights(), archive))},
    }
