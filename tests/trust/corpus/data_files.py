"""Formats of plain data, bent: counts that lie, headers that are bombs, files that are two things at once."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import zipped
from tests.trust.corpus.opcodes import PAYLOAD
from tests.trust.corpus.wire_writers import gguf, safetensors

_ESCAPE = "{% for x in ().__class__.__base__.__subclasses__() %}{{ x.__init__.__globals__ }}{% endfor %}"


def samples() -> Iterator[Sample]:
    """By format."""
    for what, (path, data, source) in {**_gguf(), **_polyglots()}.items():
        yield Sample(f"data files/{what}", {path: data}, source=source)
    for what, (path, data, source) in _safetensors().items():
        yield Sample(f"data files/{what}", {path: data}, kind="unclear", source=source)


def _gguf() -> dict[str, tuple[str, bytes, str]]:
    def template(text: str, key: str = "tokenizer.chat_template") -> bytes:
        return gguf({"general.architecture": "llama", key: text})

    return {
        "GGUF, template that escapes": ("model.gguf", template(_ESCAPE), "CVE-2024-34359"),
        "GGUF, named template that escapes": (
            "model.gguf",
            template(_ESCAPE, "tokenizer.chat_template.tool_use"),
            "CVE-2024-34359",
        ),
        "GGUF, template through lipsum": (
            "model.gguf",
            template('{{ lipsum.__globals__["os"].popen("id").read() }}'),
            "CVE-2026-5760",
        ),
        "GGUF under another name": ("model.bin", template(_ESCAPE), "CVE-2024-34359"),
        "GGUF, too many facts": ("model.gguf", gguf({"a": "b"}, count=1 << 60), "CVE-2024-23496"),
        "GGUF, too many tensors": ("model.gguf", gguf({"a": "b"}, tensors=1 << 60), "CVE-2024-25664"),
        "GGUF, text of a huge length": (
            "model.gguf",
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 0xFFFFFFFFFFFFFFF0) + b"x",
            "CVE-2024-25665",
        ),
        "GGUF, dimensions that overflow": (
            "model.gguf",
            b"GGUF"
            + struct.pack("<IQQ", 3, 1, 0)
            + struct.pack("<Q", 1)
            + b"w"
            + struct.pack("<IQQIQ", 2, 1 << 33, 1 << 33, 0, 0),
            "CVE-2024-21836",
        ),
    }


def _safetensors() -> dict[str, tuple[str, bytes, str]]:
    """Headers that the library's parser refuses: no harm is done, and nothing can be loaded."""

    def tensor(start: int, end: int, shape: list[int]) -> dict[str, object]:
        return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}

    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    return {
        "safetensors, header of a huge length": ("model.safetensors", safetensors({}, length=1 << 62), ""),
        "safetensors, header longer than the file": ("model.safetensors", safetensors({}, length=10_000), ""),
        "safetensors, tensors that overlap": (
            "model.safetensors",
            safetensors({"a": tensor(0, 8, [2]), "b": tensor(4, 12, [2])}, bytes(12)),
            "",
        ),
        "safetensors, offsets beyond the end": (
            "model.safetensors",
            safetensors({"a": tensor(0, 1 << 40, [2])}, bytes(8)),
            "",
        ),
        "safetensors, a key twice": (
            "model.safetensors",
            safetensors(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
                bytes(8),
            ),
            "",
        ),
        "safetensors, nested header": ("model.safetensors", safetensors(deep), ""),
        "safetensors, shape that overflows": (
            "model.safetensors",
            safetensors({"a": tensor(0, 8, [1 << 32, 1 << 32])}, bytes(8)),
            "",
        ),
        "safetensors, negative shape": ("model.safetensors", safetensors({"a": tensor(0, 8, [-2])}, bytes(8)), ""),
        "safetensors, pickle in a hole": (
            "model.safetensors",
            safetensors({"a": tensor(0, 4, [1]), "b": tensor(200, 204, [1])}, bytes(4) + PAYLOAD.ljust(200, b"\0")),
            "",
        ),
    }


def _polyglots() -> dict[str, tuple[str, bytes, str]]:
    archive = zipped({"archive/data.pkl": PAYLOAD, "archive/version": b"3\n"})
    weights = safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8))
    return {
        "safetensors with an archive": ("model.safetensors", weights + archive, ""),
        "program that is an archive": ("model.llamafile", b"\x7fELF" + bytes(60) + archive, ""),
        "portable program that is an archive": ("model.exe", b"MZqFpD='\n" + bytes(60) + archive, "llamafile"),
        "script that is an archive": ("model.pt", b"#!/bin/sh\necho pwned\nexit\n" + archive, ""),
        "pickle that is an archive": ("model.pt", PAYLOAD + archive, ""),
        "JSON that is a pickle": ("config.json", b"(S'x'\nios\nsystem\n." + json.dumps({}).encode(), ""),
        "picture with an archive": ("card.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(21) + archive, ""),
        "GGUF with an archive": ("model.gguf", gguf({"general.architecture": "llama"}) + archive, ""),
        "text that is a pickle": ("README.md", b"cos\nsystem\n(S'echo pwned'\ntR.", ""),
        "pickle with the head of an array": ("a.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': '|O'} " + PAYLOAD, ""),
        "tar that is a zip": ("model.tar", _tar_and_zip(archive), ""),
    }


def _tar_and_zip(archive: bytes) -> bytes:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as outer:
        info = tarfile.TarInfo("notes.txt")
        info.size = 4
        outer.addfile(info, io.BytesIO(b"text"))
    return buffer.getvalue() + archive
