"""torch: recurrent layers in exported programs, with the number of steps left symbolic."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def symbolic_steps() -> Iterator[None]:
    """While torch.export runs: LSTM, GRU and RNN tell the sizes of their results without walking the sequence.

    torch.export keeps such a layer as one operator, but learns its sizes from a decomposition in Python that loops over
    the steps, and so fixes their number. Decompositions by `while_loop` (torch 2.13, torch/export/_patches.py) fix
    the batch in its place. What is registered here is asked for sizes only; programs run torch's own kernels.
    """
    import torch

    key = torch._C.DispatchKey.CompositeImplicitAutograd
    aten = torch.ops.aten
    shapes: dict[Any, Callable[..., Any]] = {
        aten.lstm.input: _lstm,
        aten.gru.input: _gru,
        aten.rnn_tanh.input: _gru,
        aten.rnn_relu.input: _gru,
    }
    before = {operator: operator.py_kernels.get(key) for operator in shapes}
    try:
        for operator, sizes in shapes.items():
            operator.py_kernels[key] = sizes
            operator._dispatch_cache.clear()
        yield
    finally:
        for operator, kernel in before.items():
            if kernel is None:
                operator.py_kernels.pop(key, None)
            else:
                operator.py_kernels[key] = kernel
            operator._dispatch_cache.clear()


def _lstm(x: Tensor, states: Sequence[Tensor], *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """(T, B, D · H) and both final states (D · layers, B, H)."""
    hidden, cell = states
    return _steps(x, hidden, options), hidden.new_empty(hidden.shape), cell.new_empty(cell.shape)


def _gru(x: Tensor, hidden: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    """(T, B, D · H) and the final state."""
    return _steps(x, hidden, options), hidden.new_empty(hidden.shape)


def _steps(x: Tensor, hidden: Tensor, options: Sequence[Any]) -> Tensor:
    *_, bidirectional, _batch_first = options  # as aten has them: (params, biases, layers, dropout, train, …)
    return x.new_empty([*x.shape[:-1], hidden.shape[-1] * (2 if bidirectional else 1)])
