"""The places of a checkpoint's tensors, in each of torch's three formats, are those that torch itself reads."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch

from regraft.errors import RegraftError
from regraft.package.formats import Probe
from regraft.package.formats.torch_places import View, torch_views
from regraft.package.reader import BytesReader


def read(view: View) -> np.ndarray:
    """The elements by the arithmetic of strides, one by one."""
    assert view.storage is not None
    raw = np.frombuffer(view.storage.read_all(), dtype=view.dtype)
    at = view.start + sum(
        np.arange(extent).reshape([-1 if axis == own else 1 for own in range(len(view.shape))]) * step
        for axis, (extent, step) in enumerate(zip(view.shape, view.stride, strict=True))
    )
    return raw[at].reshape(view.shape)


def views_of(content: bytes, kind: str) -> dict[str, View]:
    found = torch_views(Probe(BytesReader(content, where="test"), "test"), kind)
    return {view.name: view for view in found.views}


@pytest.mark.parametrize("is_zip", [True, False])
def test_views_of_shared_storages(is_zip: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {"base": base, "t": base.t(), "part": base[1:3, ::2], "int": torch.arange(5), "scalar": base[2, 3]}
    buffer = io.BytesIO()
    torch.save({"model": tensors, "optim": {"step": torch.ones(1)}}, buffer, _use_new_zipfile_serialization=is_zip)
    views = views_of(buffer.getvalue(), "torch-zip" if is_zip else "torch-legacy")
    assert views.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert np.array_equal(read(views[name]), tensor.numpy()), name
    assert len({view.identity for view in views.values()}) == len(tensors)


def tar_checkpoint() -> bytes:
    """As torch 0.1.9 wrote them. One storage of 6 floats, a view of it, and two tensors; both pickled by key."""

    class Reference:
        def __init__(self, key: int) -> None:
            self.key = key

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> str | None:
            return str(value.key) if isinstance(value, Reference) else None

    def packed(*values: object) -> bytes:
        return b"".join(pickle.dumps(value, 2) for value in values)

    storages = packed(1, (10, "cpu", torch.FloatStorage)) + struct.pack("<q6f", 6, *range(6)) + packed([(11, 10, 2, 4)])
    tensors = packed(2, (1, 10, torch.FloatTensor)) + struct.pack("<ii", 2, 0) + struct.pack("<5q", 2, 3, 3, 1, 0)
    tensors += packed((2, 11, torch.FloatTensor)) + struct.pack("<ii", 1, 0) + struct.pack("<3q", 3, 1, 1)
    content = io.BytesIO()
    Pickler(content, 2).dump({"weight": Reference(1), "view": Reference(2)})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        parts = {"sys_info": packed({}), "pickle": content.getvalue(), "storages": storages, "tensors": tensors}
        for name, data in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_a_tar_and_a_view_of_its_storage() -> None:
    views = views_of(tar_checkpoint(), "torch-tar")
    assert read(views["weight"]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read(views["view"]).tolist() == [3, 4, 5]  # begins at the second element of the view, the fourth of all


@pytest.mark.parametrize("kind", ["torch-zip", "torch-legacy", "torch-tar"])
def test_damage_ends_in_an_error_of_ours(kind: str) -> None:
    if kind == "torch-tar":
        content = tar_checkpoint()
    else:
        buffer = io.BytesIO()
        torch.save({"a": torch.arange(6.0)}, buffer, _use_new_zipfile_serialization=kind == "torch-zip")
        content = buffer.getvalue()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(256)
        cut = bytes(damaged[: rng.integers(len(content) // 2, len(content) + 1)])
        try:
            for view in views_of(cut, kind).values():
                if view.storage is not None and view.dtype == "float32":
                    view.storage.read_at(view.start * 4, 4)
        except RegraftError:
            continue
