"""A process of one runtime that is handed single operators: what crashes it is told, and a new one goes on."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from regraft.errors import Crashed
from regraft.runtime.interface import Signature
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds

    Run: TypeAlias = Callable[[Feeds], Mapping[str, Array]]

_TIME_LIMIT_S = 60.0
_ROUND_S = 0.001
_MODEL, _FEED = "model", "feed "


class OperatorProcess:
    """Tries ONNX models of one operator in a runtime, in a process of its own.

    Args:
        runtime: how results name it.
        prepare: `module:function`, called there with the bytes of a model and the dtype that it is to compute in, empty
            for none; it returns what computes outputs from feeds.
    """

    def __init__(self, runtime: str, prepare: str) -> None:
        self.runtime = runtime
        self._recipe = Recipe(f"{__name__}:host", arguments={"runtime": runtime, "prepare": prepare})
        self._model: IsolatedModel | None = None

    def run(self, content: bytes, feeds: Feeds, dtype: str) -> dict[str, Array]:
        """Prepare an operator, and run it once.

        Raises:
            Unsupported: the runtime has not got it; the message is the runtime's own.
            Crashed: the process died, or said nothing for a minute.
        """
        import numpy as np

        arrays: dict[str, Array] = {_MODEL: np.frombuffer(content, np.uint8)}
        arrays |= {f"{_FEED}{name}": value for name, value in feeds.items()}
        return self._apply("first_pass", arrays, dtype=dtype)[1]

    def pass_ms(self) -> float:
        """Wall time of one pass of the operator that was run last, in ms: the mean over a millisecond or more."""
        return float(self._apply("timed_passes", {})[0]["ms"])

    def close(self) -> None:
        """End the process."""
        if self._model is not None:
            self._model.close()
            self._model = None

    def _apply(
        self, function: str, arrays: Mapping[str, Array], **arguments: Any
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        if self._model is None:
            self._model = IsolatedModel(self._recipe, time_limit_s=_TIME_LIMIT_S, where=self.runtime)
        try:
            return self._model.apply(f"{__name__}:{function}", arrays, **arguments)
        except Crashed:
            self.close()
            raise


class OperatorHost:
    """Stands in the process where otherwise a model does, and keeps the operator that is tried."""

    effective_precision = "float32"
    where = ""
    signature = Signature(())

    def __init__(self, runtime: str, prepare: Callable[[bytes, str], Run]) -> None:
        self.runtime = runtime
        self.prepare = prepare
        self.run: Run | None = None
        self.feeds: Feeds = {}


def host(_: bytes, *, runtime: str, prepare: str) -> OperatorHost:
    """What the process answers with, see `OperatorProcess`."""
    module, name = prepare.split(":")
    return OperatorHost(runtime, getattr(importlib.import_module(module), name))


def first_pass(
    at: OperatorHost, arrays: Mapping[str, Array], *, dtype: str
) -> tuple[dict[str, Any], Mapping[str, Array]]:
    """In the process: prepare an operator and run it."""
    at.run = None
    at.feeds = {name.removeprefix(_FEED): value for name, value in arrays.items() if name != _MODEL}
    at.run = at.prepare(arrays[_MODEL].tobytes(), dtype)
    return {}, at.run(at.feeds)


def timed_passes(at: OperatorHost, _: Mapping[str, Array]) -> tuple[dict[str, Any], dict[str, Array]]:
    """In the process: passes of the operator that was run last."""
    assert at.run is not None
    passes, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < _ROUND_S or not passes:
        at.run(at.feeds)
        passes += 1
    return {"ms": 1e3 * spent / passes}, {}


def in_onnxruntime(content: bytes, _: str) -> Run:
    """An operator in ONNX Runtime, on one thread of the processor, as it stands."""
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    return _with_nan(OnnxRuntimeModel(content, threads=1, optimise=False))


def in_openvino(content: bytes, dtype: str) -> Run:
    """An operator in OpenVINO, on one thread of the processor, told to compute in the dtype."""
    from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes

    precision = dtype if dtype in ("float32", "float16", "bfloat16") else None
    return _with_nan(OpenVinoModel(graph_from_bytes(content), threads=1, precision=precision))


def _with_nan(model: Any) -> Run:
    model.allows_nan = True
    run: Run = model
    return run
