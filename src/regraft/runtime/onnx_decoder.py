"""onnxruntime: a decoder with a cache of keys and values as graph inputs and outputs, fed by itself token for token.

The names are those that exporters of transformers give: `past_key_values.0.key` goes in, `present.0.key` comes out.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.runtime.interface import Signature
from regraft.runtime.onnxruntime_model import OnnxRuntime, OnnxRuntimeModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions
    from regraft.runtime.verified import VerifiedFiles

PAST, PRESENT = "past_key_values.", "present."
POSITIONS = "position_ids"


class OnnxDecoderRuntime:
    """Loads ONNX graphs that carry a cache."""

    name = "onnxruntime"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """An ONNX file with tokens and a cache among its inputs."""
        if not OnnxRuntime().can_load(package, path, options):
            return False
        probe, recognised = package.probe(path)
        assert recognised is not None
        try:
            names = {port.name for port in recognised.describe(probe).inputs}
        except Damaged:  # onnxruntime says what it makes of it
            return False
        return {"input_ids", "attention_mask"} <= names and any(name.startswith(PAST) for name in names)

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> OnnxDecoderModel:
        """Load the graph as `OnnxRuntime` does."""
        plain = OnnxRuntime().load(files, path, options)
        model = OnnxDecoderModel(plain.content, threads=options.threads, where=path)
        plain.close()
        return model


class OnnxDecoderModel(OnnxRuntimeModel):
    """A decoder, called like one without a cache: tokens and mask in, logits out; `greedy` goes on from there."""

    @functools.cached_property
    def signature(self) -> Signature:
        """Without the cache, which is empty at the beginning of every call, and without positions, which count on."""
        whole = self._whole
        inputs = tuple(port for port in whole.inputs if not port.name.startswith((PAST, POSITIONS)))
        outputs = tuple(port for port in whole.outputs if not port.name.startswith(PRESENT))
        return Signature(inputs, outputs, whole.ranges)

    def empty_cache(self, batch: int) -> dict[str, Array]:
        """Keys and values of no token at all, (B, heads, 0, width) each."""
        import numpy as np

        return {
            port.name: np.zeros(_empty_shape(port, batch, self.where), dtype=port.dtype) for port in self._cache_ports
        }

    def step(self, tokens: NDArray[np.int64], mask: NDArray[np.int64], cache: Feeds) -> tuple[Array, dict[str, Array]]:
        """One pass over the next tokens.

        Args:
            tokens: (B, T), T ≥ 1.
            mask: (B, P + T), over the P tokens in the cache, too; 0 for padding.
            cache: of the pass before, or `empty_cache`.
        Returns:
            logits (B, T, V), and the cache that holds P + T tokens.
        """
        kept = [port.name for port in self._cache_ports]
        names = ["logits", *(PRESENT + name.removeprefix(PAST) for name in kept)]
        feeds = {"input_ids": tokens, "attention_mask": mask, **cache}
        if self._has_positions:  # of what is not padding, as transformers counts them while it generates
            feeds[POSITIONS] = (mask.cumsum(-1) - 1).clip(min=0)[:, -tokens.shape[1] :]
        logits, *present = self._run(self._session, names, feeds)
        return logits, dict(zip(kept, present, strict=True))

    def greedy(
        self, tokens: NDArray[np.int64], mask: NDArray[np.int64], *, new_tokens: int, end: int | None = None
    ) -> NDArray[np.int64]:
        """The most likely continuation, token for token, each token computed once.

        Args:
            tokens: (B, T), padded on the left.
            mask: (B, T), 0 for padding.
            new_tokens: tokens to add, ≥ 1.
            end: token after which a row is finished; finished rows go on with it. None: rows never end.
        Returns:
            (B, ≤ T + new_tokens): tokens and what follows them.
        """
        import numpy as np

        cache: Feeds = self.empty_cache(len(tokens))
        found, following = tokens, tokens
        is_done = np.zeros(len(tokens), dtype=bool)
        for _ in range(new_tokens):
            logits, cache = self.step(following, mask, cache)
            chosen = logits[:, -1].argmax(-1).astype(np.int64)  # (B,)
            if end is not None:
                chosen[is_done] = end
                is_done |= chosen == end
            following = chosen[:, None]
            found = np.concatenate([found, following], axis=1)
            mask = np.concatenate([mask, np.ones_like(following)], axis=1)
            if is_done.all():
                break
        return found

    @functools.cached_property
    def _cache_ports(self) -> tuple[Port, ...]:
        return tuple(port for port in self._whole.inputs if port.name.startswith(PAST))

    @property
    def _has_positions(self) -> bool:
        return any(port.name == POSITIONS for port in self._whole.inputs)

    @functools.cached_property
    def _whole(self) -> Signature:
        """Cache and positions included."""
        return self._declared()

    def _checked(self, feeds: Feeds) -> dict[str, Array]:
        """With an empty cache, and positions from the first column on, as transformers counts them in a call."""
        import numpy as np

        checked = super()._checked(feeds)
        tokens = checked["input_ids"]
        more = self.empty_cache(len(tokens))
        if self._has_positions:
            more[POSITIONS] = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape).copy()
        return {**checked, **more}


def _empty_shape(port: Port, batch: int, where: str) -> list[int]:
    shape = port.shape or ()
    if len(shape) != 4 or not isinstance(shape[1], int) or not isinstance(shape[3], int):
        raise Unsupported(f"{port.name} is {shape}, not (batch, heads, tokens, width)", where=where)
    return [batch, shape[1], 0, shape[3]]
