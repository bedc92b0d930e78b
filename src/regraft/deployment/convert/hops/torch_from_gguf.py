"""A transformers folder from GGUF: configuration, tokenizer and decoded weights as safetensors."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.errors import Unsupported
from regraft.package.formats.gguf import GGML_TYPES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WEIGHTS = "model.safetensors"
_PLAIN = frozenset({"float32", "float16", "bfloat16", "float64"})


class TorchFromGguf:
    """Writes down the network that transformers builds from a GGUF file."""

    name = "torch_from_gguf"
    source = "torch-gguf"
    target = "torch"
    cost = 1

    def obstacle(self) -> str:
        """PyTorch, transformers and gguf must be installed."""
        return missing("torch", "transformers", extra="torch") or missing("gguf", extra="weights")

    def convert(self, source: Source) -> Hop:
        """Save network and tokenizer; blocks of any number of bits become float32.

        Raises:
            Unsupported: it is no GGUF file in transformers' hands, or describes no tokenizer.
        """
        import transformers

        from regraft.runtime.torch_gguf import tokenizer_in
        from regraft.runtime.torch_module import TorchModel
        from regraft.runtime.torch_transformers import quietly

        model = source.loaded()
        if not isinstance(model, TorchModel) or source.files is None or source.files.format_of(source.path) != "gguf":
            raise Unsupported(
                "only a GGUF file that torch has loaded becomes a folder of transformers", where=source.where
            )
        module: PreTrainedModel = model.module  # type: ignore[assignment]
        with tempfile.TemporaryDirectory(prefix="regraft-") as name:
            folder = Path(name)
            with quietly(transformers):
                module.save_pretrained(folder, max_shard_size="1TB")
                tokenizer_in(source.files, source.path).save_pretrained(folder)
            files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        first = {_WEIGHTS: files.pop(_WEIGHTS)}
        config = json.loads(files["config.json"])
        config.pop("_name_or_path", None)
        files["config.json"] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
        notes = (f"decoded from {', '.join(_encodings(source))} to float32",)
        return Hop({**first, **files}, "torch", notes, {"transformers": str(transformers.__version__)})


def _encodings(source: Source) -> list[str]:
    """The block formats in the file."""
    assert source.files is not None
    probe, recognised = source.files.package.probe(source.path)
    assert recognised is not None
    known = {word for word, _, _ in GGML_TYPES.values()}
    found = {tensor.dtype for tensor in recognised.describe(probe).tensors or ()}
    return sorted(found & known - _PLAIN) or sorted(found)
