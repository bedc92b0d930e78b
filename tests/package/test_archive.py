"""Archives: what a lenient loader reads is readable, what is odd has a name, nothing is unbounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded, RegraftError, Unsupported
from regraft.package.archive import Archive, open_archive, open_compressed, open_tar, open_zip
from regraft.package.limits import MAX_EXPANDED_BYTES, MAX_MEMBERS
from regraft.package.reader import BytesReader, FileReader, Meter

CONTENT = {"model/data.pkl": b"\x80\x02}q\x00." * 40, "model/data/0": bytes(range(256)) * 16, "readme.txt": b"hello"}


def make_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10)), data, method)
    return buffer.getvalue()


def make_tar(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def reader(data: bytes) -> BytesReader:
    return BytesReader(data, where="test")


def contents(archive: Archive) -> dict[str, bytes]:
    return {member.name: archive.open(member).read_all() for member in archive.members}


def kinds(archive: Archive) -> set[str | None]:
    return {problem.kind for problem in archive.audit()}


@pytest.mark.parametrize("length", range(22))
@pytest.mark.parametrize("at", [0, 1, 8, 17])
def test_a_file_too_short_for_an_end_record_has_none(length: int, at: int) -> None:
    with pytest.raises(Damaged, match="no end record"):
        open_zip(reader((bytes(at) + b"PK\5\6" + bytes(22))[:length]))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_members_are_what_zipfile_wrote(method: int) -> None:
    archive = open_zip(reader(make_zip(CONTENT, method)))
    assert contents(archive) == CONTENT
    assert kinds(archive) == set()
    assert archive.members[0].modified == "2024-05-06T07:08:10"
    for member in archive.members:
        archive.verify(member)
    assert archive.problems == ()


def test_stored_members_are_sections_that_read_only_what_is_asked() -> None:
    parent = reader(make_zip({"big": bytes(5_000_000)}, zipfile.ZIP_STORED))
    archive = open_zip(parent)
    before = parent.meter.bytes_read
    assert archive.open(archive.members[0]).read_at(4_000_000, 10) == bytes(10)
    assert parent.meter.bytes_read - before < 200


@given(st.dictionaries(st.text(min_size=1, max_size=30).filter(lambda s: s.isprintable()), st.binary(max_size=300)))
@settings(max_examples=60, deadline=None)
def test_zip_round_trip(files: dict[str, bytes]) -> None:
    archive = open_zip(reader(make_zip(files)))
    assert contents(archive) == files


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_members_are_what_tarfile_wrote(form: int) -> None:
    archive = open_tar(reader(make_tar(CONTENT, form)))
    assert contents(archive) == CONTENT
    assert archive.problems == ()


def zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def lz4(data: bytes) -> bytes:
    import lz4.frame

    return bytes(lz4.frame.compress(data))


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lzma_alone,
    "zstd": zstd,
    "lz4": lz4,
}


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_compressed_streams_expand(name: str) -> None:
    data = b"the same again " * 200_000  # 3 MB: several pieces
    archive = open_compressed(BytesReader(COMPRESSIONS[name](data), where="folder/weights.tar.gz"))
    assert archive.kind == name
    assert archive.members[0].name == "weights.tar"
    assert archive.open(archive.members[0]).read_all() == data


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_tar_within_compression(name: str) -> None:
    archive = open_archive(reader(COMPRESSIONS[name](make_tar(CONTENT))))
    assert archive is not None
    assert archive.kind == "tar"
    assert contents(archive) == CONTENT


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd", "lz4"])
def test_concatenated_streams_are_one_content(name: str) -> None:
    compress = COMPRESSIONS[name]
    archive = open_compressed(reader(compress(b"first ") + compress(b"second")))
    assert contents(archive) == {"test": b"first second"}


def test_bytes_after_a_stream_are_named() -> None:
    archive = open_compressed(reader(gzip.compress(b"content") + b"hidden payload"))
    assert contents(archive) == {"test": b"content"}
    assert kinds(archive) == {"trailing-data"}


def test_content_beyond_8_mib_goes_to_a_file() -> None:
    data = random.Random(0).randbytes(9 << 20)
    content = open_compressed(reader(gzip.compress(data, 1)))
    opened = content.open(content.members[0])
    assert isinstance(opened, FileReader)
    assert not opened.path.exists()
    assert opened.read_all() == data


# --- oddities that one loader refuses and another ignores ---


def patched(data: bytes, magic: bytes, offset: int, value: bytes, *, which: int = 0) -> bytes:
    """`value` at `offset` into the `which`-th record that begins with `magic`."""
    position = -1
    for _ in range(which + 1):
        position = data.index(magic, position + 1)
    return data[: position + offset] + value + data[position + offset + len(value) :]


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def test_encrypted_flag_does_not_hide_content() -> None:
    data = patched(make_zip(CONTENT), CENTRAL, 8, b"\x01\x00")
    archive = open_zip(reader(data))
    assert contents(archive) == CONTENT
    assert {"encrypted", "local-header"} <= kinds(archive)
    with pytest.raises(RuntimeError), zipfile.ZipFile(io.BytesIO(data)) as strict:
        strict.read("model/data.pkl")


def test_local_name_that_differs_does_not_hide_content() -> None:
    data = patched(make_zip(CONTENT), LOCAL, 30, b"xodel")
    archive = open_zip(reader(data))
    assert contents(archive) == CONTENT
    (problem,) = archive.audit()
    assert problem.kind == "local-header"
    assert "name" in problem.what
    assert "xodel" in problem.what


def test_wrong_crc_does_not_hide_content() -> None:
    data = make_zip(CONTENT)
    for magic, offset in ((CENTRAL, 16), (LOCAL, 14)):
        data = patched(data, magic, offset, b"\x00\x00\x00\x01")
    archive = open_zip(reader(data))
    assert contents(archive) == CONTENT
    assert kinds(archive) == {"crc-mismatch"}


def test_wrong_crc_of_a_stored_member_is_found_by_verify() -> None:
    data = make_zip({"a": b"abc"}, zipfile.ZIP_STORED).replace(b"abc", b"abd")
    archive = open_zip(reader(data))
    assert kinds(archive) == set()
    archive.verify(archive.members[0])
    assert kinds(archive) == {"crc-mismatch"}


def test_prefixed_and_trailing_data_are_named() -> None:
    archive = open_zip(reader(b"#!/bin/sh\n" + make_zip(CONTENT) + b"tail"))
    assert contents(archive) == CONTENT
    assert kinds(archive) == {"prefixed-data", "trailing-data"}


def test_second_directory_where_the_stated_offset_points() -> None:
    honest = make_zip({"shown": b"1" * 50}, zipfile.ZIP_STORED)
    other = make_zip({"hides": b"2" * 50}, zipfile.ZIP_STORED)
    archive = open_zip(reader(honest[: honest.index(END)] + other))  # the offsets of `other` are valid in `honest` too
    assert contents(archive) == {"shown": b"1" * 50, "hides": b"2" * 50}
    assert "second-directory" in kinds(archive)


def test_bytes_between_members_are_named() -> None:
    data = make_zip({"a": b"x", "b": b"y"}, zipfile.ZIP_STORED)
    at, gap = data.index(LOCAL, 1), b"PK\x03\x04 hidden"
    data = data[:at] + gap + data[at:]
    data = patched(data, CENTRAL, 42, struct.pack("<L", at + len(gap)), which=1)
    directory = struct.unpack("<L", data[-6:-2])[0] + len(gap)
    data = data[:-6] + struct.pack("<L", directory) + data[-2:]
    archive = open_zip(reader(data))
    assert contents(archive) == {"a": b"x", "b": b"y"}
    assert kinds(archive) == {"hidden-data"}


def test_declared_size_that_is_not_real() -> None:
    data = patched(make_zip({"a": b"x" * 100}), CENTRAL, 24, struct.pack("<L", 7))
    archive = open_zip(reader(data))
    assert contents(archive) == {"a": b"x" * 100}
    assert {"size-mismatch", "local-header"} == kinds(archive)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../etc/passwd", "traversal"),
        ("a/../../b", "traversal"),
        ("..\\up", "traversal"),
        ("/etc/passwd", "absolute-name"),
        ("C:\\windows", "absolute-name"),
        ("\\\\host\\share", "absolute-name"),
        ("a\nb", "control-character"),
        ("a\x1b[2Jb", "control-character"),
        ("model\u202egpj.exe", "invisible-character"),
        ("data\u200b.pkl", "invisible-character"),
    ],
)
def test_unsafe_names_are_kept_and_named(name: str, kind: str) -> None:
    zipped = open_zip(reader(make_zip({name: b"x"})))
    assert [member.name for member in zipped.members] == [name]
    assert kinds(zipped) == {kind}
    assert kinds(open_tar(reader(make_tar({name: b"x"})))) == {kind}


def test_nul_in_a_name_does_not_cut_it() -> None:
    data = make_zip({"data.pkl_.txt": b"x"}).replace(b"data.pkl_.txt", b"data.pkl\x00.txt")
    archive = open_zip(reader(data))
    assert [member.name for member in archive.members] == ["data.pkl\x00.txt"]
    assert kinds(archive) == {"control-character"}


def test_ordinary_names_are_no_problem() -> None:
    names = ["a..b/c", "Modèle/データ.bin", "..hidden", "a/b c/(1).pt", ".data/version", "W:0"]
    assert kinds(open_zip(reader(make_zip(dict.fromkeys(names, b""))))) == set()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_and_case_twins() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (("data.pkl", b"1"), ("data.pkl", b"2"), ("DATA.pkl", b"3")):
            archive.writestr(name, data)
    opened = open_zip(reader(buffer.getvalue()))
    assert kinds(opened) == {"duplicate-name", "case-twin"}
    assert [opened.open(member).read_all() for member in opened.members] == [b"1", b"2", b"3"]
    assert opened.read("data.pkl", limit=9) == b"2"  # as zipfile reads it


def test_links_and_devices_are_told_apart() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, type_ in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("device", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type_, "/etc/passwd"
            archive.addfile(info)
    soft, hard, device = open_tar(reader(buffer.getvalue())).members
    assert (soft.is_link, soft.target) == (hard.is_link, hard.target) == (True, "/etc/passwd")
    assert device.is_special
    assert not device.is_link
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive2:
        archive2.writestr(info, "../../secret")
    assert open_zip(reader(zipped.getvalue())).members[0].is_link


def test_unknown_containers_are_unsupported_not_none() -> None:
    with pytest.raises(Unsupported):
        open_archive(reader(b"Rar!\x1a\x07\x01\x00" + bytes(100)))
    assert open_archive(reader(b"just some text, no archive at all" * 30)) is None
    assert open_archive(reader(b"")) is None


# --- bombs ---


def test_ratio_bomb_is_refused_before_it_is_expanded() -> None:
    data = make_zip({"bomb": bytes(60 << 20)}, zipfile.ZIP_BZIP2)
    archive = open_zip(reader(data))
    assert kinds(archive) == {"bomb"}
    with pytest.raises(LimitExceeded):
        archive.open(archive.members[0])


@pytest.mark.parametrize("name", ["bzip2", "zstd", "xz"])
def test_undeclared_bomb_stops_at_the_ratio(name: str) -> None:
    bomb = COMPRESSIONS[name](bytes(200 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded):
            open_compressed(reader(bomb))
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_one_budget_holds_over_nested_archives() -> None:
    inner = make_zip({"x": bytes(1000)})
    outer = BytesReader(make_zip({"inner.zip": inner}), where="outer")
    outer.meter = Meter()
    archive = open_zip(outer)
    nested = open_zip(archive.open(archive.members[0]))
    nested.open(nested.members[0])
    assert outer.meter.bytes_expanded == len(inner) + 1000
    outer.meter.bytes_expanded = MAX_EXPANDED_BYTES
    with pytest.raises(LimitExceeded):
        nested.open(nested.members[0])


def test_overlapping_members_are_named() -> None:
    """Two entries over one kernel, the building block of a non-recursive bomb."""
    data = make_zip({"kernel": bytes(1 << 20)})
    at = data.index(CENTRAL)
    entry = data[at : data.index(END)]
    end = struct.pack("<4s4H2LH", END, 0, 0, 2, 2, 2 * len(entry), at, 0)
    archive = open_zip(reader(data[:at] + entry + entry + end))
    assert {"overlap", "duplicate-name"} <= kinds(archive)


def test_too_many_members_are_refused_by_their_count() -> None:
    count = 1_000_000
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, 46 * count, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 46 * count, 1)
    end = struct.pack("<4s4H2LH", END, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with pytest.raises(LimitExceeded):
        open_zip(reader(end64 + locator + end))


def test_a_directory_that_understates_its_count_is_bounded_too() -> None:
    entry = CENTRAL + bytes(42)
    directory = entry * (MAX_MEMBERS + 1)
    end = struct.pack("<4s4H2LH", END, 0, 0, 1, 1, len(directory), 0, 0)
    with pytest.raises(LimitExceeded):
        open_zip(reader(directory + end))


def test_tar_header_that_declares_gigabytes_is_not_read() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 3 << 30
    with pytest.raises((Damaged, LimitExceeded)):
        open_tar(reader(info.tobuf(tarfile.USTAR_FORMAT) + bytes(4 << 20)))


def test_tar_that_points_backwards_ends() -> None:
    block = bytearray(tarfile.TarInfo("loop").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" + (-512 & (1 << 88) - 1).to_bytes(11, "big")  # base-256, negative size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block)
    with pytest.raises(Damaged):
        open_tar(reader(bytes(block) + bytes(2048)))


def test_sparse_file_of_four_gigabytes_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(LOCAL)
        file.truncate(4 << 30)
    with pytest.raises(Damaged):
        open_zip(FileReader(path))
    with pytest.raises(Damaged):
        open_tar(FileReader(path))


# --- damage: only our own errors come out ---


def survives(data: bytes) -> None:
    try:
        archive = open_archive(reader(data))
        if archive is None:
            return
        for member in archive.members:
            try:
                archive.verify(member)
                archive.open(member).read_at(0, 1 << 20)
            except RegraftError:
                continue
        archive.audit()
    except RegraftError:
        pass


SAMPLES = {
    "zip": make_zip(CONTENT),
    "zip-stored": make_zip(CONTENT, zipfile.ZIP_STORED),
    "zip-lzma": make_zip(CONTENT, zipfile.ZIP_LZMA),
    "tar": make_tar(CONTENT),
    "tar-pax": make_tar({"é" * 150: b"x" * 700, "b" * 300: b"y"}),
    **{name: compress(make_tar(CONTENT)) for name, compress in COMPRESSIONS.items()},
}


@pytest.mark.parametrize("name", SAMPLES)
def test_truncation_leaks_no_other_error(name: str) -> None:
    data = SAMPLES[name]
    for step in range(50):
        survives(data[: len(data) * step // 50])
        survives(data[len(data) * step // 50 :])


@pytest.mark.parametrize("name", SAMPLES)
def test_bit_flips_leak_no_other_error(name: str) -> None:
    dice = random.Random(name)
    for _ in range(150):
        data = bytearray(SAMPLES[name])
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        survives(bytes(data))


def test_real_archives_have_no_problem(asset: Callable[[str, str, str], Path]) -> None:
    chgnet = asset("pypi", "chgnet", "0.4.2") / "chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"
    archive = open_archive(FileReader(chgnet))
    assert archive is not None
    assert archive.kind == "zip"
    assert archive.audit() == ()
    tar = asset("pypi", "natasha", "1.6.0") / "natasha/data/emb/navec_news_v1_1B_250K_300d_100q.tar"
    navec = open_archive(FileReader(tar))
    assert navec is not None
    assert navec.kind == "tar"
    assert [member.name for member in navec.members] == ["meta.json", "vocab.bin", "pq.bin"]
    assert navec.audit() == ()


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_what_stands_before_damage_is_read(compress: Callable[[bytes], bytes]) -> None:
    content = random.Random(2).randbytes(300_000)
    archive = open_archive(reader(compress(content)[:-5_000]))
    assert archive is not None
    read = archive.open(archive.members[0]).read_all()
    assert len(read) > 200_000
    assert content.startswith(read)
    assert kinds(archive) == {"truncated"}
