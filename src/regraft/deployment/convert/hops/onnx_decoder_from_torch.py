"""ONNX with a cache of keys and values from a decoder of transformers, so that each token is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.hops.onnx_rewriting import MAX_BYTES, quiet, refused
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.errors import Unsupported
from regraft.runtime.onnx_decoder import PAST, POSITIONS, PRESENT, OnnxDecoderModel

if TYPE_CHECKING:
    import torch
    from torch import nn

_BATCH, _PAST, _TOKENS = 2, 3, 4
"""Sizes of the example; 0 and 1 would be fixed by torch.export."""
_NEW_TOKENS = 8


class OnnxDecoderFromTorch:
    """Exports one step of generation: new tokens and the cache go in, logits and the longer cache come out."""

    name = "onnx_decoder_from_torch"
    source = "torch"
    target = "onnx-decoder"
    cost = 3

    def obstacle(self) -> str:
        """PyTorch, transformers, onnx and onnxscript must be installed."""
        return missing("torch", "transformers", extra="torch") or missing("onnx", "onnxscript", extra="onnx")

    def convert(self, source: Source) -> Hop:
        """Export with batch, tokens and cached tokens dynamic; then generate with both, which must say the same.

        Raises:
            Unsupported: no decoder of transformers, torch cannot export it, or its words differ.
        """
        import onnx
        import torch

        from regraft.runtime.torch_module import TorchModel

        model = source.loaded()
        module: Any = model.module if isinstance(model, TorchModel) else None
        if module is None or not getattr(module, "can_generate", lambda: False)() or module.config.is_encoder_decoder:
            raise Unsupported("only decoders of transformers that generate have a cache", where=source.where)
        proto = _exported(module, source.where)
        if proto.ByteSize() > MAX_BYTES:
            raise Unsupported(f"the graph has {proto.ByteSize()} bytes; 2 GiB is the most", where=source.where)
        content = proto.SerializeToString()
        _prove(content, module, source.where)
        note = f"{_NEW_TOKENS} tokens of a padded batch are the same that transformers generates"
        versions = {"torch": str(torch.__version__), "onnx": str(onnx.__version__)}
        return Hop({"model.onnx": content}, "onnxruntime", (note,), versions, None)


def _step(module: nn.Module) -> nn.Module:
    """One step as a module of plain tensors."""
    import torch
    from transformers import DynamicCache

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(
            self,
            input_ids: torch.Tensor,  # (B, T)
            attention_mask: torch.Tensor,  # (B, P + T)
            position_ids: torch.Tensor,  # (B, T)
            past: list[torch.Tensor],  # (B, heads, P, width) each
        ) -> tuple[torch.Tensor, ...]:
            cache: Any = DynamicCache()
            for layer in range(len(past) // 2):
                cache.update(past[2 * layer], past[2 * layer + 1], layer)
            found = self.module(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            present = [part for layer in found.past_key_values.layers for part in (layer.keys, layer.values)]
            return (found.logits, *present)

    return Step().eval()


def _exported(module: nn.Module, where: str) -> Any:
    import torch
    from torch.export import Dim

    past = _example_cache(module, where)
    names = [f"{layer}.{part}" for layer in range(len(past) // 2) for part in ("key", "value")]
    dynamic = Dim.DYNAMIC  # the mask is as long as cache and tokens together, which a named one could not say
    example = (
        torch.ones(_BATCH, _TOKENS, dtype=torch.int64),
        torch.ones(_BATCH, _PAST + _TOKENS, dtype=torch.int64),
        torch.arange(_PAST, _PAST + _TOKENS).expand(_BATCH, _TOKENS),
        past,
    )
    shapes = (
        {0: dynamic, 1: dynamic},
        {0: dynamic, 1: dynamic},
        {0: dynamic, 1: dynamic},
        [{0: dynamic, 2: dynamic} for _ in past],
    )
    try:
        with quiet(), torch.no_grad():
            made = torch.onnx.export(
                _step(module),
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=["input_ids", "attention_mask", POSITIONS, *(PAST + name for name in names)],
                output_names=["logits", *(PRESENT + name for name in names)],
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever went wrong inside of it
        raise refused(
            "torch.onnx", error.__cause__ if isinstance(error.__cause__, Exception) else error, where
        ) from error
    assert made is not None
    return made.model_proto


def _example_cache(module: nn.Module, where: str) -> list[torch.Tensor]:
    """Keys and values of a few tokens, (B, heads, P, width), layer by layer."""
    import torch

    tokens = torch.ones(_BATCH, _PAST, dtype=torch.int64)
    with torch.no_grad():
        cache = module(input_ids=tokens, use_cache=True).past_key_values
    past = [part for layer in getattr(cache, "layers", ()) for part in (layer.keys, layer.values)]
    if not past or any(part.ndim != 4 or part.shape[2] != _PAST for part in past):
        raise Unsupported("its cache is not made of keys and values of every token", where=where)
    return past


def _prove(content: bytes, module: Any, where: str) -> None:
    """Generate from a batch whose second row is padded; begins with an empty cache, a size that was not exported."""
    import numpy as np
    import torch

    model = OnnxDecoderModel(content, where=where)
    vocabulary = int(module.config.get_text_config().vocab_size)
    tokens = np.random.default_rng(0).integers(0, vocabulary, (3, 5))
    mask = np.ones_like(tokens)
    mask[1, :2] = 0
    ours = model.greedy(tokens, mask, new_tokens=_NEW_TOKENS)
    with torch.no_grad(), quiet():
        theirs = module.generate(
            torch.from_numpy(tokens),
            attention_mask=torch.from_numpy(mask),
            max_new_tokens=_NEW_TOKENS,
            min_new_tokens=_NEW_TOKENS,
            do_sample=False,
            num_beams=1,
            eos_token_id=None,
            pad_token_id=0,
        ).numpy()
    model.close()
    if not np.array_equal(ours, theirs):
        at = int(np.argmax((ours != theirs).any(0))) - tokens.shape[1]
        raise Unsupported(
            f"with its cache it generates otherwise than transformers, from new token {at} on", where=where
        )
