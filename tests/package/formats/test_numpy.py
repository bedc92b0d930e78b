"""NumPy files: headers as numpy writes them, and what is hostile about them."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded, RegraftError
from regraft.package.formats.interface import Description, Format, Loading, Probe
from regraft.package.formats.numpy import Npy, Npz
from regraft.package.reader import BytesReader, FileReader

FORMATS: tuple[Format, ...] = (Npy(), Npz())


def described(source: Path | bytes) -> tuple[str, Description]:
    reader = BytesReader(source, where="test") if isinstance(source, bytes) else FileReader(source)
    probe = Probe(reader, "test")
    member = next(format_ for format_ in FORMATS if format_.matches(probe))
    return member.name, member.describe(probe)


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@given(
    st.sampled_from(["<f4", ">f8", "|b1", "<i2", "|u1", "<c8", "<U7", "|S3", "<M8[ns]", "<f2"]),
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from("CF"),
)
@settings(max_examples=80, deadline=None)
def test_every_array_is_described_as_it_was(dtype: str, shape: list[int], order: str) -> None:
    array = np.zeros(shape, dtype, order=order)  # type: ignore[call-overload]
    name, description = described(saved(array))
    (tensor,) = description.tensors or ()
    assert name == "numpy"
    assert (tensor.shape, tensor.size_bytes) == (array.shape, array.nbytes)
    if array.dtype.kind not in "USM":
        assert tensor.dtype == array.dtype.name
    assert description.loading is None
    assert description.problems == ()


def test_structured_types_keep_their_size() -> None:
    array = np.zeros(5, [("a", "<f4"), ("b", "<i8", (2, 3)), ("c", [("d", "u1"), ("e", "<U2")])])
    (tensor,) = described(saved(array))[1].tensors or ()
    assert (tensor.dtype, tensor.size_bytes) == ("struct", array.nbytes)


@pytest.mark.parametrize("array", [np.array([{}, 1], object), np.zeros(2, [("a", "<f4"), ("b", "O")])])
def test_objects_run_code_on_loading(array: np.ndarray) -> None:
    _, description = described(saved(array))
    assert description.loading is Loading.CODE
    assert description.metadata["object_dtype"] == "yes"


def test_npz_names_its_arrays_and_its_objects() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, weight=np.zeros((3, 4)), names=np.array([None], object))
    name, description = described(buffer.getvalue())
    assert name == "npz"
    assert [(t.name, t.shape) for t in description.tensors or ()] == [("weight", (3, 4)), ("names", (1,))]
    assert description.loading is Loading.CODE
    assert description.metadata["object_dtype"] == "names"


def test_zip_with_other_members_is_no_npz() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", saved(np.zeros(1)))
        archive.writestr("evil.py", b"")
    assert not Npz().matches(Probe(BytesReader(buffer.getvalue(), where="test"), "test"))


def test_cut_and_longer_arrays_are_problems() -> None:
    data = saved(np.zeros(100))
    assert [problem.kind for problem in described(data[:-8])[1].problems] == ["truncated"]
    assert [problem.kind for problem in described(data + b"x")[1].problems] == ["trailing-data"]


def header(text: str, version: int = 1) -> bytes:
    raw = text.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(raw).to_bytes(2 if version == 1 else 4, "little") + raw + bytes(64)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (10**99,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': ('a',)}",
        "{'descr': '<q9', 'fortran_order': False, 'shape': ()}",
        "{'descr': [('a', [('b', 3)])], 'fortran_order': False, 'shape': ()}",
        "{'descr': '<f4', 'shape': ()}",
        "__import__('os').system('true')",
        "(" * 5000,
        "'" + "\\x",
        "",
        "[" * 3000 + "]" * 3000,
    ],
)
def test_hostile_headers_are_damaged(text: str) -> None:
    with pytest.raises(Damaged):
        described(header(text))


def test_a_giant_header_is_not_parsed() -> None:
    with pytest.raises(LimitExceeded):
        described(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + bytes(100))


def test_damage_leaks_no_other_error() -> None:
    dice = random.Random(1)
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros((2, 3)), b=np.array(["x"], object))
    structured = saved(np.zeros(5, [("a", "<f4"), ("b", "<i8", (2, 3))]))
    for data in (buffer.getvalue(), structured, saved(np.zeros((3, 4), "f4"))):
        for step in range(350):
            changed = bytearray(data[: len(data) * step // 50] if step < 50 else data)
            for _ in range(dice.randint(1, 5) if step >= 50 else 0):
                changed[dice.randrange(min(len(changed), 400))] ^= 1 << dice.randrange(8)
            probe = Probe(BytesReader(bytes(changed), where="fuzz"), "fuzz")
            for format_ in FORMATS:
                if format_.matches(probe):
                    try:
                        format_.describe(probe)
                    except RegraftError:
                        continue


def test_real_files(asset: Callable[[str, str, str], Path]) -> None:
    filters = asset("pypi", "whisperx", "3.8.6") / "whisperx/assets/mel_filters.npz"
    _, description = described(filters)
    with np.load(filters) as reference:
        expected = [(name, str(array.dtype), array.shape) for name, array in reference.items()]
    assert [(t.name, t.dtype, t.shape) for t in description.tensors or ()] == expected
    model = asset("pypi", "tiara", "1.0.2") / "tiara/models/tfidf-models/k7-second-stage/model.npy"
    assert [(t.dtype, t.shape) for t in described(model)[1].tensors or ()] == [("float32", (16384,))]
