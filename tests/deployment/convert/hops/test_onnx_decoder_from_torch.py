"""A decoder with a cache says the same as transformers, token for token, and its first pass is the plain network's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import regraft as rg
from regraft.deployment.convert.hops.onnx_decoder_from_torch import OnnxDecoderFromTorch
from regraft.deployment.convert.interface import Source
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.runtime import load
from regraft.runtime.onnx_decoder import OnnxDecoderModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.3,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("decoder") / "llama"
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    """The converter's product; inside of it has generated as transformers does."""
    out = folder.parent / "onnx"
    out.mkdir()
    with open_package(folder) as package:
        hop = OnnxDecoderFromTorch().convert(Source(load(package), where="llama"))
    assert "are the same that transformers generates" in hop.notes[0]
    (out / "model.onnx").write_bytes(hop.files["model.onnx"])
    return out


def test_it_is_verified_as_the_network_without_a_cache(made: Path, folder: Path) -> None:
    evidence = rg.verify(folder, made, localise=False)
    assert evidence.verdict is Verdict.PASS, evidence.findings


def test_it_generates_what_transformers_generates(made: Path, folder: Path) -> None:
    network = LlamaForCausalLM.from_pretrained(folder)
    tokens = np.random.default_rng(7).integers(3, 120, (4, 6))
    mask = np.ones_like(tokens)
    mask[2, :3] = 0  # padded on the left
    with open_package(made) as package:
        model = load(package)
        assert isinstance(model, OnnxDecoderModel)
        ours = model.greedy(tokens, mask, new_tokens=20)
        inputs = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
        settings = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
        theirs = network.generate(**inputs, **settings, eos_token_id=None).numpy()
        assert np.array_equal(ours, theirs)
        assert len(np.unique(theirs[:, 6:])) > 5  # it does not say one word for ever
        end = int(theirs[0, 8])
        ended = model.greedy(tokens[:1], mask[:1], new_tokens=20, end=end)
        assert ended[0, -1] == end
        assert np.array_equal(ended[0], theirs[0, : ended.shape[1]])
        model.close()


def test_each_token_is_computed_once(made: Path) -> None:
    with open_package(made) as package:
        model = load(package)
        assert isinstance(model, OnnxDecoderModel)
        tokens = np.array([[5, 6, 7, 8]])
        whole = model({"input_ids": tokens, "attention_mask": np.ones_like(tokens)})["logits"]
        _, cache = model.step(tokens[:, :3], np.ones((1, 3), np.int64), model.empty_cache(1))
        assert {value.shape[2] for value in cache.values()} == {3}
        last, cache = model.step(tokens[:, 3:], np.ones((1, 4), np.int64), cache)
        assert {value.shape[2] for value in cache.values()} == {4}
        # float32: 32-wide sums of values near one, in another order
        assert np.allclose(last[:, 0], whole[:, 3], atol=1e-5 * np.abs(whole).max())
        model.close()
