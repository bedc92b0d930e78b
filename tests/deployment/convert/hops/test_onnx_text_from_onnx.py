"""A tokenizer in front of a network: strings in, the same tokens and the same answer out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import regraft as rg
from regraft.deployment.bench.messages import Start
from regraft.deployment.bench.passes import load_passes
from regraft.deployment.convert.hops.onnx_text_from_onnx import OnnxTextFromOnnx
from regraft.deployment.convert.interface import Source
from regraft.deployment.convert.text_graph.builder import GraphBuilder
from regraft.deployment.convert.text_graph.pooling import add_pooling
from regraft.deployment.convert.text_graph.tables import tables_of
from regraft.errors import Unsupported
from regraft.package.package import open_package
from regraft.package.reference import parse_reference
from regraft.record.evidence import Verdict
from regraft.runtime import load
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.pooling import Pooling
from regraft.runtime.text import load_text_encoder
from regraft.runtime.verified import VerifiedFiles

PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] a b h ##b ##c ##bc hello ##o hell the ? é 漢 σ #".split()
POOLING = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}
HIDDEN = 8
MOST = 40
"""Tokens of a text, special ones included."""
TEXTS = ["hello abc the", "", "HELLO, the 漢漢? [MASK][SEP]x hellob Σ é\u0301", "a " * 40, "hellz " + "b" * 300]


def word_pieces(*, lowercase: bool = True) -> Tokenizer:
    """BERT's, of a few pieces: every way of a word through it is there."""
    model = models.WordPiece(
        {piece: number for number, piece in enumerate(PIECES)}, unk_token="[UNK]", max_input_chars_per_word=100
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(PIECES[:5])
    return tokenizer


def graph() -> onnx.ModelProto:
    """Token vectors of ids, by a table and a product."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(len(PIECES), HIDDEN)).astype(np.float32)
    weights = [
        onnx.numpy_helper.from_array(table, "table"),
        onnx.numpy_helper.from_array(rng.normal(size=(HIDDEN, HIDDEN)).astype(np.float32), "w"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "w"], ["last_hidden_state"]),
    ]
    taken = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "tokens"]) for n in ("input_ids",)]
    made = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "tokens", HIDDEN])]
    body = helper.make_graph(nodes, "vectors", taken, made, weights)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write(folder: Path, tokenizer: Tokenizer) -> None:
    """Tokenizer, limit and pooling beside the network, as sentence-transformers has them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": MOST}))
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [{"path": f"{i}_{k}", "type": f"sentence_transformers.models.{k}"} for i, k in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(POOLING))


def converted(folder: Path) -> dict[str, bytes]:
    with open_package(folder) as package:
        source = Source(load(package), (), VerifiedFiles(package, None), "model.onnx", "vectors")
        return OnnxTextFromOnnx().convert(source).files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "vectors"
    path.mkdir()
    onnx.save(graph(), path / "model.onnx")
    write(path, word_pieces())
    return path


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    """The converter's product; inside of it the tokens were compared on a million characters."""
    out = folder.parent / "texts"
    out.mkdir()
    (out / "model.onnx").write_bytes(converted(folder)["model.onnx"])
    return out


def test_strings_become_the_tokens_and_vectors_of_the_package(folder: Path, made: Path) -> None:
    with open_package(folder) as package, open_package(made) as product:
        encoder = load_text_encoder(package)
        outputs = load(product)({"texts": np.array(TEXTS)})
    for row, mask, encoding in zip(
        outputs["input_ids"], outputs["attention_mask"], encoder.tokenize(TEXTS), strict=True
    ):
        assert row[mask == 1].tolist() == encoding.ids
    assert outputs["input_ids"].shape == (len(TEXTS), MOST)  # the fourth text is cut
    wanted = encoder.encode(TEXTS)
    assert wanted.shape == (len(TEXTS), 3 * HIDDEN)
    assert np.allclose(outputs["sentence_embedding"], wanted, atol=1e-6)  # unit vectors, sums of 8 terms in float32


def test_verify_puts_the_packages_own_tokenizer_in_front_of_its_network(folder: Path, made: Path) -> None:
    evidence = rg.verify(folder, made, localise=False)
    assert evidence.verdict is Verdict.PASS, evidence.findings
    assert {one.of["output"] for one in evidence.measurements if one.name == "rms_ratio"} == {
        "sentence_embedding", "input_ids", "attention_mask",
    }  # fmt: skip
    assert rg.verify(folder, made, feeds=TEXTS, localise=False).verdict is Verdict.PASS


def test_another_tokenizer_is_found(folder: Path, made: Path, tmp_path: Path) -> None:
    other = tmp_path / "cased"
    other.mkdir()
    (other / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    write(other, word_pieces(lowercase=False))
    evidence = rg.verify(other, made, localise=False)
    assert evidence.verdict is Verdict.FAIL
    assert any("input_ids" in finding.message for finding in evidence.findings)


def test_it_is_timed_from_strings_and_strings_are_made_up_for_it(made: Path) -> None:
    passes = load_passes(Start(parse_reference(str(made)), path="model.onnx", texts=tuple(TEXTS)))
    answers = passes.of(3)()
    assert isinstance(answers, dict)
    assert answers["sentence_embedding"].shape == (3, 3 * HIDDEN)
    with pytest.raises(Unsupported, match="tokens"):
        passes.of(3, 16)
    case = next(generated_feeds(passes.model.signature))
    assert passes.model(case.feeds)["input_ids"].shape[0] == case.sizes["batch"]


def bytes_pairs() -> Tokenizer:
    return Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))


def composing() -> Tokenizer:
    tokenizer = word_pieces()
    tokenizer.normalizer = normalizers.NFKC()
    return tokenizer


def splitting() -> Tokenizer:
    tokenizer = word_pieces()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def adding() -> Tokenizer:
    tokenizer = word_pieces()
    tokenizer.add_tokens(["hello world"])  # looked for after normalisation
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "named"),
    [(bytes_pairs, "BPE"), (composing, "NFKC"), (splitting, "Whitespace"), (adding, "'hello world'")],
)
def test_a_tokenizer_that_is_no_graph_is_refused_by_its_name(tokenizer, named: str, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(graph().SerializeToString())
    write(tmp_path, tokenizer())
    with pytest.raises(Unsupported, match=named):
        converted(tmp_path)


def odd_pieces(vocabulary: dict[str, int], unknown: str, added: list[str], most: int = 100) -> Tokenizer:
    model = models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=most)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(added)
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [(odd_pieces({"a": 0}, "[NONE]", []), r"unknown words, '\[NONE\]', is not in the vocabulary"),
     (odd_pieces({}, "[UNK]", []), "vocabulary is empty"),
     (odd_pieces({"[UNK]": 0}, "[UNK]", [f"<{number}>" for number in range(300)]), "300 tokens of 1390 characters"),
     (odd_pieces({"[UNK]": 0}, "[UNK]", ["a" * 5000]), "1 tokens of 5000 characters")],
    ids=["unknown", "empty", "many", "long"],
)  # fmt: skip
def test_files_of_tokenizers_that_are_no_graph_are_refused(tokenizer: Tokenizer, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        tables_of(tokenizer)


def test_words_without_a_longest_one_fit_into_the_graph() -> None:
    tables = tables_of(odd_pieces({"[UNK]": 0, "a": 1}, "[UNK]", [], most=2**64 - 1))
    GraphBuilder("t").integers(tables.longest_word)


@pytest.mark.parametrize("modes", [("mean",), ("max",), ("cls",)])
def test_token_vectors_of_float16_are_pooled_in_float32(modes: tuple[str, ...]) -> None:
    taken = [
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT16, ["batch", "tokens", HIDDEN]),
        helper.make_tensor_value_info("mask", TensorProto.INT64, ["batch", "tokens"]),
    ]
    builder, pooling = GraphBuilder("p"), Pooling(modes, normalise=True)
    made = add_pooling(builder, taken[:1], "mask", pooling, "here")
    body = helper.make_graph(builder.nodes, "pooling", taken, made, builder.constants)
    proto = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    hidden = np.random.default_rng(0).normal(size=(2, 3, HIDDEN)).astype(np.float16)
    mask = np.array([[1, 1, 1], [1, 0, 0]])
    (found,) = OnnxRuntimeModel(proto.SerializeToString())({"last_hidden_state": hidden, "mask": mask}).values()
    wanted = pooling(hidden.astype(np.float32), mask)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)  # some dozens of roundings of float32
