from __future__ import annotations

import numpy as np
import pytest

from regraft.runtime.static_embedding import StaticEmbeddingModel
from regraft.workflow.load import load, load_text


def test_wordllama_pools_as_its_own_code_does(wordllama):
    """Its arithmetic is written out here: mean over the mask, ids clipped, no special tokens, not normalised."""
    from pathlib import Path

    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    texts = ["a moving, funny film", "dull", "the plot is thin and the jokes are old"]
    (file,) = Path(wordllama).rglob("l2_supercat_256.safetensors")
    (matrix,) = load_file(file).values()
    tokenizer = Tokenizer.from_file(str(next(Path(wordllama).rglob("l2_supercat_tokenizer_config.json"))))
    tokenizer.no_truncation()
    wanted = []
    for text in texts:
        ids = np.clip(tokenizer.encode(text, add_special_tokens=False).ids, 0, len(matrix) - 1)
        wanted.append(matrix[ids].astype("float32").mean(axis=0))
    found = load_text(wordllama).encode(texts, batch_size=2)
    np.testing.assert_allclose(found, np.stack(wanted), atol=2e-6)  # float32 sums of some ten values of order 1


def test_taps_and_ranges(wordllama):
    model = load(wordllama)
    assert model.runtime == "numpy"
    assert model.signature.ranges["input_ids"] == (0, 31999)
    feeds = {"input_ids": np.array([[1, 2, 40000], [3, 3, 3]]), "attention_mask": np.array([[1, 1, 0], [0, 0, 0]])}
    taps = {tap.name: tap.value for tap in model.trace(feeds)}
    assert taps["token_embeddings"].shape == (2, 3, 256)
    assert np.array_equal(taps["sentence_embedding"], model(feeds)["sentence_embedding"])
    assert not taps["sentence_embedding"][1].any()  # nothing under the mask: a divisor of one, not NaN


def test_cast_is_exact():
    matrix = np.random.default_rng(0).standard_normal((50, 8)).astype("float16")
    model = StaticEmbeddingModel(matrix)
    feeds = {"input_ids": np.array([[1, 2, 3]]), "attention_mask": np.ones((1, 3), dtype=np.int64)}
    exact = model.cast("float64")(feeds)["sentence_embedding"]
    np.testing.assert_allclose(exact[0], matrix[[1, 2, 3]].astype("float64").mean(axis=0), rtol=1e-15)
    assert model(feeds)["sentence_embedding"].dtype == np.float32
    with pytest.raises(Exception, match="float32 or float64"):
        model.cast("bfloat16")
