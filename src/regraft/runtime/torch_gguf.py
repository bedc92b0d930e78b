"""torch: a GGUF file whose architecture transformers knows, its blocks decoded to float32."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_tensors import import_torch, torch_dtype
from regraft.runtime.torch_transformers import filled, import_transformers, model_inputs, quietly

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from regraft.package.package import Package
    from regraft.runtime.interface import LoadOptions
    from regraft.runtime.verified import VerifiedFiles

FILE = "model.gguf"


class GgufRuntime:
    """Loads decoders and encoders of llama.cpp as a `TorchModel`."""

    name = "torch"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """A GGUF file that says its architecture; containers of weights alone do not."""
        if options.factory is not None:
            return False
        probe, recognised = package.probe(path)
        if recognised is None or recognised.name != "gguf":
            return False
        try:
            return recognised.describe(probe).metadata.get("general.architecture", "unknown") != "unknown"
        except Damaged:
            return False

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> TorchModel:
        """Build the network that the metadata describe, and fill it with the decoded blocks.

        Raises:
            Unsupported: transformers does not know the architecture, or weights are missing.
            MissingExtra: torch, transformers or gguf is not installed.
        """
        import_torch(path)
        transformers = import_transformers(path)
        dtype = options.precision or "float32"
        chosen = transformers.AutoModelForCausalLM if options.head else transformers.AutoModel
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            files.copy(path, Path(folder) / FILE)
            network, config, state_dict = _decoded(transformers, chosen, folder, path)
        module = filled(transformers, network, config, state_dict, torch_dtype(dtype), path)
        inputs, ranges = model_inputs(module, module.config, dtype)
        return TorchModel(module, inputs=inputs, ranges=ranges, threads=options.threads, where=path)


def tokenizer_in(files: VerifiedFiles, path: str) -> PreTrainedTokenizerBase:
    """The tokenizer that the metadata of a GGUF file describe.

    Raises:
        Unsupported: they describe none that transformers knows.
        MissingExtra: transformers is not installed.
    """
    transformers = import_transformers(path)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        files.copy(path, Path(folder) / FILE)
        try:
            with quietly(transformers):
                found: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(
                    folder, gguf_file=FILE, local_files_only=True
                )
        except Exception as error:  # what parsers of metadata raise is open
            raise Unsupported(f"transformers finds no tokenizer in it: {_said(error)}", where=path) from error
    return found


def _decoded(
    transformers: Any, chosen: Any, folder: str, where: str
) -> tuple[type[PreTrainedModel], PretrainedConfig, dict[str, torch.Tensor]]:
    """The class that the metadata name, its configuration, and its weights under its own names.

    As `from_pretrained(gguf_file=…)` goes about it, which asks for accelerate besides. Source: transformers 5.23,
    modeling_gguf_pytorch_utils.py.
    """
    import torch
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    try:
        with quietly(transformers), contextlib.redirect_stderr(io.StringIO()):  # tqdm's bar is not its own
            config = transformers.AutoConfig.from_pretrained(folder, gguf_file=FILE, local_files_only=True)
            with torch.device("meta"):
                empty = chosen.from_config(config, trust_remote_code=False)
            path = str(Path(folder) / FILE)
            load: Any = load_gguf_checkpoint
            state_dict = load(path, return_tensors=True, model_to_load=empty)["tensors"]
    except ImportError as error:
        raise MissingExtra(str(error.name or "gguf"), extra="weights", where=where) from error
    except Exception as error:  # what parsers of metadata raise is open
        raise Unsupported(f"transformers cannot load it: {_said(error)}", where=where) from error
    return type(empty), config, state_dict


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
