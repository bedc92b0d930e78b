"""From token vectors to one vector a text, as the package's own sentence-transformers files say."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Damaged, Unsupported
from regraft.runtime.tokenizing import json_beside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.verified import VerifiedFiles

_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
MODES = ("mean", "cls", "max", "mean_sqrt")
_MODULES = ("Transformer", "Pooling", "Normalize")


class Pooling(msgspec.Struct, frozen=True):
    """How token vectors become one vector.

    Attributes:
        modes: of `MODES`; several are concatenated in this order.
        normalise: scale to unit length afterwards.
        origin: where that is said, `default` when the package says nothing.
    """

    modes: tuple[str, ...] = ("mean",)
    normalise: bool = False
    origin: str = "default"

    def __call__(self, hidden: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.floating]:
        """Pool.

        Args:
            hidden: (B, T, D) token vectors.
            mask: (B, T), 1 for tokens and 0 for padding.
        Returns:
            (B, D × number of modes).
        """
        import numpy as np

        weights = mask.astype(hidden.dtype)  # (B, T)
        parts = [_pooled(mode, hidden, weights) for mode in self.modes]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return self.finish(joined)

    def finish(self, pooled: NDArray[Any]) -> NDArray[np.floating]:
        """Normalise (B, D) vectors, where the package says so; a zero vector stays zero. float64 stays float64."""
        import numpy as np

        if self.normalise:
            pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return pooled if pooled.dtype == np.float64 else pooled.astype(np.float32, copy=False)


def pooling_of(files: VerifiedFiles, weights: str) -> Pooling:
    """The pooling that `modules.json` names; the mean over tokens when there is none.

    Raises:
        Unsupported: a module beyond transformer, pooling and normalisation, or another way to pool.
        Damaged: the files are not what they should be.
    """
    place = files.beside(weights, "modules.json") or files.beside(weights, "../modules.json")
    if place is None:
        return Pooling()
    modules = json_beside(files, place, posixpath.basename(place))
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise Damaged("modules.json is not a list of modules", where=place)
    pooling = Pooling(origin=place)
    for module in modules:
        kind = str(module.get("type", ""))
        name = kind.rsplit(".", 1)[-1]
        if not kind.startswith("sentence_transformers.") or name not in _MODULES:
            raise Unsupported(f"the module {kind!r} is not one of {', '.join(_MODULES)}", where=place)
        if name == "Normalize":
            pooling = msgspec.structs.replace(pooling, normalise=True)
        elif name == "Pooling":
            settings = json_beside(files, place, f"{module.get('path', '')}/config.json")
            pooling = msgspec.structs.replace(pooling, modes=_modes(settings, place))
    return pooling


def _modes(settings: Any, where: str) -> tuple[str, ...]:
    if not isinstance(settings, dict):
        raise Damaged("the configuration of the pooling is not an object", where=where)
    named = settings.get("pooling_mode")
    modes = [named] if isinstance(named, str) else [mode for flag, mode in _FLAGS.items() if settings.get(flag)]
    modes = [str(mode).removesuffix("_tokens") for mode in (named if isinstance(named, list) else modes)]
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise Unsupported(f"pooling {unknown[0]!r} is not one of {', '.join(MODES)}", where=where)
    return tuple(modes) or ("mean",)


def _pooled(mode: str, hidden: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.floating]:
    import numpy as np

    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        result: NDArray[np.floating] = np.where(weights[:, :, None] > 0, hidden, -np.inf).max(axis=1)
        return result
    total = (weights[:, None, :] @ hidden)[:, 0]  # (B, D)
    count = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)  # (B, 1)
    divided: NDArray[np.floating] = total / (np.sqrt(count) if mode == "mean_sqrt" else count)
    return divided
