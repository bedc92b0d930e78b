"""Archives that write outside of their folder, fill the disk, or look different to different readers."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import compressed, link, tarred, zipped

_HARMLESS = b"weights"


def samples() -> Iterator[Sample]:
    """Slips, links, bombs."""
    names = {
        "climbing name": "../../.bashrc",
        "climbing from a folder": "data/../../../.ssh/authorized_keys",
        "absolute name": "/etc/cron.d/x",
        "name of a drive": "C:\\Windows\\x.dll",
        "climbing by backslashes": "..\\..\\x.bat",
    }
    for what, name in names.items():
        yield Sample(f"archives/zip, {what}", {"model.zip": zipped({"a.txt": b"x", name: _HARMLESS})}, source="CWE-22")
        yield Sample(f"archives/tar, {what}", {"model.tar.gz": tarred({"a.txt": b"x", name: _HARMLESS}, mode="w:gz")})
    yield Sample(
        "archives/mar, climbing name", {"model.mar": zipped({"MAR-INF/MANIFEST.json": b"{}", "../x.py": b"1"})}
    )
    yield Sample(
        "archives/torch zip, climbing name",
        {"model.pt": zipped({"a/data.pkl": b"\x80\x02N.", "a/version": b"3", "a/../../x": b"1"})},
    )
    yield Sample(
        "archives/wheel, climbing name",
        {"m-1-py3-none-any.whl": zipped({"m/__init__.py": b"", "../../x.pth": b"import os"})},
    )
    links = {
        "link to a file outside": (link("weights.bin", "/etc/passwd"),),
        "link that climbs": (link("weights.bin", "../../../../etc/passwd"),),
        "hard link outside": (link("weights.bin", "/etc/shadow", tarfile.LNKTYPE),),
        "folder that is a link": (link("data", "/tmp"), link("data/x", "y")),
        "link through a link": (link("a", "."), link("a/b", "..")),
        "device": (_device("sda"),),
        "pipe": (_pipe("queue"),),
    }
    for what, members in links.items():
        yield Sample(f"archives/tar, {what}", {"model.tar": tarred({"a.txt": b"x"}, *members)}, source="CVE-2007-4559")
    yield Sample(
        "archives/nemo, link that climbs",
        {"model.nemo": tarred({"model_config.yaml": b"x: 1\n"}, link("model_weights.ckpt", "/etc/passwd"))},
    )
    yield Sample("archives/zip, link outside", {"model.zip": _zip_link("weights.bin", "/etc/passwd")})
    yield Sample(
        "archives/zip, bomb",
        {"model.zip": zipped({"x.bin": bytes(40_000_000)}, method=zipfile.ZIP_DEFLATED)},
        source="CWE-409",
    )
    yield Sample("archives/gz, bomb", {"model.bin.gz": compressed(bytes(60_000_000), "gz")}, source="CWE-409")
    yield Sample(
        "archives/zip, overlapping members", {"model.zip": _overlapping()}, source="CWE-409, zip of D. Fifield"
    )
    yield Sample(
        "archives/repository, link outside", {"config.json": b"{}"}, links={"model.safetensors": "/etc/passwd"}
    )
    yield Sample("archives/repository, linked folder", {"config.json": b"{}"}, links={"weights": "/etc"})
    yield Sample(
        "archives/repository, climbing link", {"config.json": b"{}"}, links={"tokenizer.json": "../../../../etc/hosts"}
    )


def _device(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.devmajor, info.devminor = tarfile.BLKTYPE, 8, 0
    return info


def _pipe(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.FIFOTYPE
    return info


def _zip_link(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, target)
    return buffer.getvalue()


def _overlapping() -> bytes:
    """Two entries of the directory for one local header."""
    data = zipped({"a.bin": bytes(1000)})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    tail = bytearray(data[end:])
    tail[8:12] = b"\x02\x00\x02\x00"
    tail[12:16] = (2 * len(entry)).to_bytes(4, "little")
    return data[:start] + entry + entry.replace(b"a.bin", b"b.bin") + bytes(tail)
