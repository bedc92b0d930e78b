"""Blocks of GGUF are decoded as ggml defines them, by formulas that stand here once more."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from regraft.deployment.convert.weights import convert_weights
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.runtime.verified import VerifiedFiles

QUANTS = gguf.GGMLQuantizationType


def nibbles(block: np.ndarray) -> np.ndarray:
    """(16,) bytes → (32,) numbers of 4 bits: all low halves first."""
    return np.concatenate([block & 15, block >> 4]).astype(np.float32)


def half(block: np.ndarray, at: int) -> np.float32:
    return np.float32(block[at : at + 2].view(np.float16)[0])


def fifth_bits(block: np.ndarray) -> np.ndarray:
    return ((block.view(np.uint32)[0] >> np.arange(32)) & 1).astype(np.float32) * 16


FORMULAS = {
    QUANTS.Q4_0: lambda b: half(b, 0) * (nibbles(b[2:]) - 8),
    QUANTS.Q4_1: lambda b: half(b, 0) * nibbles(b[4:]) + half(b, 2),
    QUANTS.Q5_0: lambda b: half(b, 0) * (nibbles(b[6:]) + fifth_bits(b[2:6].copy()) - 16),
    QUANTS.Q5_1: lambda b: half(b, 0) * (nibbles(b[8:]) + fifth_bits(b[4:8].copy())) + half(b, 2),
    QUANTS.Q8_0: lambda b: half(b, 0) * b[2:].view(np.int8).astype(np.float32),
}


def written(path: Path, tensors: dict[str, tuple[np.ndarray, QUANTS]]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    for name, (array, kind) in tensors.items():
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind", FORMULAS, ids=lambda kind: kind.name)
def test_blocks_are_decoded_as_ggml_defines_them(kind: QUANTS, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    stored = gguf.quantize(values, kind)
    written(tmp_path / "model.gguf", {"w": (stored, kind), "plain": (values, QUANTS.F32)})
    with open_package(tmp_path / "model.gguf") as package:
        made = convert_weights(VerifiedFiles(package), "model.gguf", to="safetensors", folder=tmp_path)
    assert made.verdict is Verdict.PASS
    got = load_file(tmp_path / made.file)
    blocks = stored.reshape(-1, stored.shape[-1] // 2)
    expected = np.concatenate([FORMULAS[kind](block) for block in blocks]).reshape(3, 64)
    assert np.array_equal(got["w"], expected)
    assert np.array_equal(got["plain"], values)
    assert [finding.data for finding in made.findings if finding.rule == "weights.converted"] == [
        {"from": kind.name.lower(), "to": "float32", "tensors": 1}
    ]


def test_blocks_that_nobody_decodes_are_left_out_and_said(tmp_path: Path) -> None:
    stored = np.zeros((2, 292), np.uint8)  # q8_k holds activations, and is never read back
    written(tmp_path / "model.gguf", {"w": (stored, QUANTS.Q8_K), "plain": (np.ones(4, np.float32), QUANTS.F32)})
    with open_package(tmp_path / "model.gguf") as package:
        made = convert_weights(VerifiedFiles(package), "model.gguf", to="npz", folder=tmp_path)
    assert made.verdict is Verdict.INCONCLUSIVE
    assert list(np.load(tmp_path / made.file)) == ["plain"]
