"""TensorFlow checkpoint indices: the sizes they state must be those of the data files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.interface import Probe
from regraft.package.formats.tf_checkpoint import TfCheckpointIndex
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]


@pytest.mark.parametrize(
    ("model", "count"), [("MSD_vgg", 86), ("MTT_vgg", 86), ("MSD_musicnn", 150), ("MTT_musicnn", 150)]
)
def test_musicnn(asset: Asset, model: str, count: int) -> None:
    folder = asset("pypi", "musicnn", "0.1.0") / "musicnn" / model
    probe = Probe(FileReader(folder / ".index"), ".index")
    found = recognise(probe)
    assert found is not None
    assert found.name == "tf-checkpoint"
    description = found.describe(probe)
    tensors = description.tensors or ()
    assert len(tensors) == count
    assert sum(t.size_bytes or 0 for t in tensors) == (folder / ".data-00000-of-00001").stat().st_size
    assert all(t.size_bytes == 4 * t.elements for t in tensors if t.dtype == "float32")
    assert description.parameters == sum(
        t.elements for t in tensors if "Adam" not in t.name and t.name not in ("beta1_power", "beta2_power")
    )


def test_variables_of_a_saved_model(asset: Asset) -> None:
    folder = asset("pypi", "basic-pitch", "0.4.0") / "basic_pitch/saved_models/icassp_2022/nmp/variables"
    description = TfCheckpointIndex().describe(Probe(FileReader(folder / "variables.index"), "x"))
    stored = sum(tensor.size_bytes or 0 for tensor in description.tensors or ())
    size = (folder / "variables.data-00000-of-00001").stat().st_size
    assert stored + int(description.metadata["object_graph_bytes"]) == size


def test_compressed_blocks_are_told(asset: Asset) -> None:
    data = bytearray((asset("pypi", "musicnn", "0.1.0") / "musicnn/MSD_vgg/.index").read_bytes())
    data[-48 - 5] = 1  # the type in the trailer of the index block, which lies before the footer
    with pytest.raises(Damaged, match="compressed"):
        TfCheckpointIndex().describe(Probe(BytesReader(bytes(data), where="x"), "x"))


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    data = (asset("pypi", "musicnn", "0.1.0") / "musicnn/MSD_vgg/.index").read_bytes()
    assert hammer(TfCheckpointIndex(), data, rounds=400) > 0
