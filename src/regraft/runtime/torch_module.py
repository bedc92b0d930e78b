"""torch: an eager `nn.Module` as a `Model`, its taps taken by forward hooks."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import RegraftError, Unsupported
from regraft.package.formats import Port
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.torch_tensors import (
    array_from_tensor,
    cast_port,
    input_from_array,
    named_tensors,
    precision_of,
    running_with,
    torch_dtype,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from regraft.runtime.interface import Array, Feeds, Reduce

_TAPS_AHEAD = 8
"""Taps that a pass may be ahead of who consumes its trace: what bounds the memory of a trace."""


class TorchModel:
    """An `nn.Module` in evaluation mode, called with keyword arguments.

    Args:
        module: the network; it is put into evaluation mode.
        inputs: names, dtypes and symbolic shapes of its `forward`.
        ranges: integer input → lowest and highest legal value.
        threads: intra-op threads during a pass; None for torch's own number.
        where: how errors name it.
    """

    runtime = "torch"

    def __init__(
        self,
        module: nn.Module,
        *,
        inputs: Sequence[Port],
        ranges: dict[str, tuple[int, int]] | None = None,
        threads: int | None = None,
        where: str = "",
    ) -> None:
        self.module = module.eval()
        self.where = where
        self.allows_nan = False
        self._inputs = tuple(inputs)
        self._ranges = dict(ranges or {})
        self._threads = threads
        self._outputs: tuple[Port, ...] = ()

    @property
    def signature(self) -> Signature:
        """Inputs as declared; outputs as the last call returned them."""
        return Signature(self._inputs, self._outputs, self._ranges)

    @property
    def threads(self) -> int | None:
        """Intra-op threads during a pass; None for torch's own number."""
        return self._threads

    @property
    def effective_precision(self) -> str:
        """The dtype of the parameters, `mixed` when they differ."""
        return precision_of(iter(self.module.parameters()))

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass without gradients; outputs under their field names, or `output_0` and on."""
        result = self._forward(checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan))
        outputs = {name: array_from_tensor(tensor) for name, tensor in named_tensors(result)}
        self._outputs = tuple(Port(name, str(value.dtype), (None,) * value.ndim) for name, value in outputs.items())
        return outputs

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """The output of every submodule in the order in which they return, then the outputs of the model.

        A module that is called more than once gives one tap a call: `name`, `name:1`, …. The pass runs in
        a thread of its own and waits for who consumes the taps, so only a few of them exist at any time.
        """
        wanted = None if taps is None else frozenset(taps)
        checked = checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)
        stream = _TapStream()
        recorder = _Recorder(stream, wanted, reduce)
        hooks = contextlib.ExitStack()

        def run() -> None:
            result = self._forward(checked)
            recorder.keep("", type(self.module).__name__, result)

        with hooks:
            for scope, module in self.module.named_modules():
                if scope:
                    hooks.callback(module.register_forward_hook(recorder.hook(scope)).remove)
            yield from stream.drive(run)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> TorchModel:
        """Not for eager modules: their graph is known only once they are exported.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(
            "an eager module has no graph to cut",
            where=self.where,
            hint="export it first: regraft.runtime.torch_export.exported(model, feeds)",
        )

    def cast(self, dtype: str) -> TorchModel:
        """A copy whose floating-point parameters and buffers are in `dtype`; floating feeds are cast likewise.

        What the code itself fixes to another dtype stays there: look at the dtypes of the taps. `tensorfloat32` is
        what a GPU makes of float32, see `TensorFloatModel`.
        """
        import copy

        if dtype == "tensorfloat32":
            from regraft.runtime.torch_tensor_float import TensorFloatModel

            return TensorFloatModel(self)
        return TorchModel(
            copy.deepcopy(self.module).to(torch_dtype(dtype)),
            inputs=[cast_port(port, dtype) for port in self._inputs],
            ranges=self._ranges,
            threads=self._threads,
            where=self.where,
        )

    def close(self) -> None:
        """Nothing to free beyond the module itself."""

    def _forward(self, feeds: Feeds) -> Any:
        tensors = {port.name: self._place(input_from_array(feeds[port.name], port.dtype)) for port in self._inputs}
        with running_with(self._threads):
            try:
                return self.module(**tensors)
            except _StoppedError:
                raise
            except RegraftError:
                raise
            except Exception as error:
                raise Unsupported(
                    f"the network stopped: {type(error).__name__}: {str(error)[:500]}",
                    where=self.where,
                    hint="feeds: " + ", ".join(f"{name} {value.shape}" for name, value in feeds.items()),
                ) from error

    def _place(self, tensor: torch.Tensor) -> torch.Tensor:
        """An input where the network is."""
        return tensor


class _StoppedError(Exception):
    """Who consumed the trace went away; unwinds the pass."""


class _TapStream:
    """Taps from the thread of a pass to the consumer, at most `_TAPS_AHEAD` of them in between."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Tap | None] = queue.Queue(maxsize=_TAPS_AHEAD)
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    def put(self, tap: Tap) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(tap, timeout=0.1)
                return
        raise _StoppedError

    def drive(self, run: Callable[[], None]) -> Iterator[Tap]:
        """Run the pass and yield what it puts; its error comes after the taps that came before it."""
        worker = threading.Thread(target=self._work, args=(run,), name="regraft-trace", daemon=True)
        worker.start()
        try:
            while (tap := self._queue.get()) is not None:
                yield tap
        finally:
            self._stopped.set()
            while worker.is_alive():
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()
                worker.join(timeout=0.05)
        if self._error is not None:
            raise self._error

    def _work(self, run: Callable[[], None]) -> None:
        try:
            run()
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001  raised again in the consumer's thread
            self._error = error
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=0.1)
                return


class _Recorder:
    """Turns what modules return into taps."""

    def __init__(self, stream: _TapStream, wanted: frozenset[str] | None, reduce: Reduce | None) -> None:
        self._stream = stream
        self._wanted = wanted
        self._reduce = reduce
        self._seen: dict[str, int] = {}
        self._order = 0

    def hook(self, scope: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, _: Any, result: Any) -> None:
            self.keep(scope, type(module).__name__, result)

        return keep

    def keep(self, scope: str, operator: str, result: Any) -> None:
        for field, tensor in named_tensors(result):
            plain = field if not scope else scope if field == "output_0" else f"{scope}.{field}"
            count = self._seen[plain] = self._seen.get(plain, -1) + 1
            name = f"{plain}:{count}" if count else plain
            order, self._order = self._order, self._order + 1
            if self._wanted is None or name in self._wanted:
                self._stream.put(self._tap(name, operator, scope, order, tensor))

    def _tap(self, name: str, operator: str, scope: str, order: int, tensor: torch.Tensor) -> Tap:
        array = array_from_tensor(tensor)
        if self._reduce is not None:
            return Tap(name, operator, scope, order, kept=self._reduce(array))
        return Tap(name, operator, scope, order, value=array.copy())
