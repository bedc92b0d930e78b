"""Recurrent layers: torch's own, with ONNX's gates in torch's order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from regraft.deployment.convert.operators.interface import Family
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

FAMILY = Family()
_ORDERS = {4: (0, 2, 3, 1), 3: (1, 0, 2), 1: (0,)}
"""Gates of LSTM i o f c → i f g o, of GRU z r h → r z n."""
_ACTIVATIONS = {4: ("Sigmoid", "Tanh", "Tanh"), 3: ("Sigmoid", "Tanh"), 1: ("Tanh",)}
_MAX_STEPS = 1024


def _in_order(weights: Tensor, gates: int) -> Tensor:
    """(gates · H, …) with the gates as torch has them."""
    parts = weights.chunk(gates, 0)
    return torch.cat([parts[i] for i in _ORDERS[gates]], 0)


def _parameters(w: Tensor, r: Tensor, b: Tensor | None, gates: int, direction: int) -> list[Tensor]:
    """Input weights, recurrent weights and, where there are any, their biases, of one direction."""
    found = [_in_order(w[direction], gates), _in_order(r[direction], gates)]
    if b is not None:
        found += [_in_order(half, gates) for half in b[direction].chunk(2, 0)]
    return found


def _check(options: dict[str, Any], lengths: Tensor | None, gates: int, directions: int) -> None:
    """What torch's layers cannot do is refused."""
    if lengths is not None:
        raise Unsupported("sequences of several lengths (sequence_lens) have no mapping", hint="feed them unpadded")
    expected = _ACTIVATIONS[gates] * directions
    activations = tuple(name.title() for name in options["activations"] or ())[: len(expected)]
    if activations and activations != expected and not (gates == 1 and set(activations) == {"Relu"}):
        raise Unsupported(f"activations {', '.join(activations)} have no mapping")
    if options.get("clip") is not None or options.get("input_forget"):
        raise Unsupported("clip and input_forget have no mapping")


_ATTRIBUTES = (
    "activation_alpha?, activation_beta?, clip?, direction='forward', hidden_size?, layout=0, output_sequence=1"
)


@FAMILY.maps(
    f"LSTM(X, W, R, B?, sequence_lens?, initial_h?, initial_c?, P?; {_ATTRIBUTES}, activations?, input_forget=0)"
)
def _lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    h: Tensor | None,
    c: Tensor | None,
    peepholes: Tensor | None,
    **options: Any,
) -> tuple[Tensor, ...]:
    if peepholes is not None:
        raise Unsupported("peepholes have no mapping")
    return _run(torch.lstm, 4, x, (w, r, b), lengths, [h, c], options)


@FAMILY.maps(f"GRU(X, W, R, B?, sequence_lens?, initial_h?; {_ATTRIBUTES}, activations?, linear_before_reset=0)")
def _gru(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None, h: Tensor | None, **options: Any
) -> tuple[Tensor, ...]:
    layer = torch.gru if options["linear_before_reset"] else _gru_reset_first
    return _run(layer, 3, x, (w, r, b), lengths, [h], options)


@FAMILY.maps(f"RNN(X, W, R, B?, sequence_lens?, initial_h?; {_ATTRIBUTES}, activations=['Tanh', 'Tanh'])")
def _rnn(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, lengths: Tensor | None, h: Tensor | None, **options: Any
) -> tuple[Tensor, ...]:
    is_relu = {name.title() for name in options["activations"] or ()} == {"Relu"}
    return _run(torch.rnn_relu if is_relu else torch.rnn_tanh, 1, x, (w, r, b), lengths, [h], options)


def _run(
    layer: Any,
    gates: int,
    x: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None],
    lengths: Tensor | None,
    states: list[Tensor | None],
    options: dict[str, Any],
) -> tuple[Tensor, ...]:
    """Output (T, D, B, H) and final states (D, B, H), or with the batch first where `layout` says so."""
    w, r, b = weights
    directions, hidden = w.shape[0], r.shape[-1]
    _check(options, lengths, gates, directions)
    batch_first = bool(options["layout"])
    x = x.transpose(0, 1) if batch_first else x  # (T, B, I)
    is_reverse = options["direction"] == "reverse"
    x = x.flip(0) if is_reverse else x
    starts = [
        torch.zeros((directions, x.shape[1], hidden), dtype=x.dtype)
        if state is None
        else (state.transpose(0, 1) if batch_first else state).contiguous()
        for state in states
    ]
    parameters = [part for d in range(directions) for part in _parameters(w, r, b, gates, d)]
    given = tuple(starts) if gates == 4 else starts[0]
    output, *finals = layer(x, given, parameters, b is not None, 1, 0.0, False, directions == 2, False)
    output = output.flip(0) if is_reverse else output
    output = output.reshape(x.shape[0], x.shape[1], directions, hidden)
    if batch_first:
        return output.transpose(0, 1), *(state.transpose(0, 1) for state in finals)
    return output.permute(0, 2, 1, 3), *finals


def _gru_reset_first(
    x: Tensor, h: Tensor, parameters: list[Tensor], has_biases: bool, *options: Any
) -> tuple[Tensor, Tensor]:
    """The GRU of the paper, which resets before the product; torch resets after it. Unrolled over time.

    Raises:
        Unsupported: the length is not fixed.
    Source: Cho et al. 2014, arXiv:1406.1078, eq. 5–8.
    """
    if not isinstance(x.shape[0], int) or x.shape[0] > _MAX_STEPS:
        raise Unsupported(
            "a GRU with linear_before_reset=0 is unrolled, and its length is not fixed",
            hint="feed it one length only",
        )
    each = len(parameters) // h.shape[0]
    outputs, finals = [], []
    for direction in range(h.shape[0]):
        own = parameters[direction * each : (direction + 1) * each]
        steps, final = _gru_pass(x.flip(0) if direction else x, h[direction], own, has_biases)
        outputs.append(steps.flip(0) if direction else steps)
        finals.append(final)
    return torch.cat(outputs, -1), torch.stack(finals)


def _gru_pass(x: Tensor, h: Tensor, parameters: list[Tensor], has_biases: bool) -> tuple[Tensor, Tensor]:
    w, r, *biases = parameters
    inputs = torch.nn.functional.linear(x, w, biases[0] if has_biases else None)  # (T, B, 3H)
    r_reset, r_update, r_new = r.chunk(3, 0)
    zero = torch.zeros((), dtype=x.dtype)
    b_reset, b_update, b_new = biases[1].chunk(3, 0) if has_biases else (zero, zero, zero)
    steps = []
    for t in range(int(x.shape[0])):
        i_reset, i_update, i_new = inputs[t].chunk(3, -1)
        reset = torch.sigmoid(i_reset + h @ r_reset.t() + b_reset)
        update = torch.sigmoid(i_update + h @ r_update.t() + b_update)
        new = torch.tanh(i_new + (reset * h) @ r_new.t() + b_new)
        h = (1 - update) * new + update * h
        steps.append(h)
    return torch.stack(steps), h
