"""What is planted: one thing that is wrong in one module, the words for it, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from benchmarks.modules.networks import WIDTH
from torch import nn

Plant = Callable[[nn.Module], Any]


class Fault(NamedTuple):
    """One fault of one network.

    Attributes:
        kind: which mistake.
        network: of `networks.NETWORKS`.
        scope: the module that is at fault.
        causes: words that name it rightly.
        plant: damages the whole network in place.
        is_baked: it shows at other sizes than the example's alone.
        beside: the module whose result goes into what should not be there.
    """

    kind: str
    network: str
    scope: str
    causes: tuple[str, ...]
    plant: Plant
    is_baked: bool = False
    beside: str = ""


def _attribute(scope: str, name: str, value: Any) -> Plant:
    return lambda network: setattr(network.get_submodule(scope), name, value)


def _setting(scope: str, **settings: Any) -> Plant:
    def plant(network: nn.Module) -> None:
        call: Any = network.get_submodule(scope)
        call.settings = {**call.settings, **settings}

    return plant


def _weight(scope: str, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Plant:
    def plant(network: nn.Module) -> None:
        parameter = getattr(network.get_submodule(scope), name)
        with torch.no_grad():
            parameter.copy_(change(parameter.detach().clone()))

    return plant


def _module(scope: str, made: Callable[[nn.Module], nn.Module]) -> Plant:
    return lambda network: network.set_submodule(scope, made(network.get_submodule(scope)))


def _gates(order: tuple[int, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda weight: torch.cat([weight.chunk(len(order))[gate] for gate in order])


def _shuffled(weight: torch.Tensor) -> torch.Tensor:
    return weight[:, torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(3))]


def _copied(source: str, scope: str, *names: str) -> Plant:
    """One layer has the weights of another of the same shape; of all of them where no names are given."""

    def plant(network: nn.Module) -> None:
        state = network.get_submodule(source).state_dict()
        chosen = {name: state[name] for name in names or state}
        network.get_submodule(scope).load_state_dict(chosen, strict=False)

    return plant


def _each_gate(scope: str, order: tuple[int, ...]) -> Plant:
    """The blocks of all weights of a recurrent layer in another order."""

    def plant(network: nn.Module) -> None:
        for name, _ in list(network.get_submodule(scope).named_parameters()):
            _weight(scope, name, _gates(order))(network)

    return plant


def _reversed_directions(network: nn.Module) -> None:
    layer = network.get_submodule("lstm")
    state = layer.state_dict()
    names = [name for name in state if not name.endswith("_reverse")]
    swapped = {name: state[f"{name}_reverse"].clone() for name in names}
    layer.load_state_dict(swapped | {f"{name}_reverse": state[name].clone() for name in names})


def _undilated(network: nn.Module) -> None:
    layer: Any = network.get_submodule("second")
    layer.dilation, layer.padding = (1, 1), (1, 1)


def _untied(head: nn.Module) -> nn.Module:
    """The head keeps a copy of its own, from before the embedding was trained further."""
    weight = head.weight
    assert isinstance(weight, torch.Tensor)
    copy = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        copy.weight.copy_(weight + 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)))
    return copy


_ROWS: dict[str, list[tuple[Any, ...]]] = {
    "image": [
        ("epsilon", "norm", "epsilon", _attribute("norm", "eps", 1e-3)),
        ("batch_statistics", "norm2", "batchnorm_training", _attribute("norm2", "uses_batch", True)),
        ("variance_for_deviation", "norm", "batchnorm_parameters", _weight("norm", "running_var", torch.sqrt)),
        ("slope", "act", "activation_alpha", _attribute("act", "negative_slope", 0.01)),
        ("ceil_mode", "pool", "ceil_mode", _attribute("pool", "ceil_mode", False)),
        ("count_include_pad", "average", "count_include_pad", _attribute("average", "count_include_pad", True)),
        ("align_corners", "upsample", "resize_coordinates", _attribute("upsample", "align_corners", True)),
        (
            "nearest",
            "upsample",
            "resize_mode mode operator_kind",
            _module("upsample", lambda old: nn.Upsample(scale_factor=2, mode="nearest")),
        ),
        ("bgr", "stem", "channel_order", _weight("stem", "weight", lambda w: w.flip(1))),
        ("transposed_kernel", "wide", "weight_transposed", _weight("wide", "weight", lambda w: w.transpose(2, 3))),
        ("swapped_channels", "wide", "weight_transposed", _weight("wide", "weight", lambda w: w.transpose(0, 1))),
        ("padding_mode", "wide", "pad_mode padding", _attribute("wide", "padding_mode", "reflect")),
        ("activation", "act2", "activation_kind operator_kind", _module("act2", lambda old: nn.ReLU())),
        ("softmax_dim", "softmax", "softmax_axis", _setting("softmax", dim=0)),
        ("bias_missing", "head", "bias_missing", _weight("head", "bias", torch.zeros_like)),
    ],
    "encoder": [
        ("epsilon", "norm", "epsilon", _attribute("norm", "eps", 1e-12)),
        ("epsilon", "norm2", "epsilon", _attribute("norm2", "eps", 1e-3)),
        ("gelu", "act", "gelu_approximation", _attribute("act", "approximate", "tanh")),
        ("softmax_dim", "softmax", "softmax_axis", _setting("softmax", dim=-2)),
        ("mask_value", "mask", "mask_value", _setting("mask", value=-1.0)),
        ("attention_scale", "scale", "attention_scale", _setting("scale", other=WIDTH**-0.5)),
        ("cumsum_dim", "count", "axis cumsum_axis", _setting("count", dim=0)),
        ("dropout", "dropout", "dropout", _setting("dropout", training=True), False, "softmax"),
        ("transposed", "query", "weight_transposed", _weight("query", "weight", torch.t)),
        ("permuted", "down", "weight_permuted", _weight("down", "weight", _shuffled)),
        ("key_for_value", "value", "weight_duplicated weight_changed", _copied("key", "value", "weight")),
        ("untied", "head", "weight_changed weight_tying weight_duplicated", _module("head", _untied)),
    ],
    "decoder": [
        ("epsilon", "norm", "epsilon", _attribute("norm", "eps", 1e-2)),
        ("attention_scale", "attention", "attention_scale", _setting("attention", scale=WIDTH**-0.5)),
        ("not_causal", "attention", "causal_mask mask_value", _setting("attention", is_causal=False)),
        ("division", "buckets", "division_rounding rounding_mode", _setting("buckets", rounding_mode="trunc")),
        ("rotation_sign", "turn", "rotation_sign constant_value", _setting("turn", sign=1.0)),
        ("activation", "act", "activation_kind operator_kind", _module("act", lambda old: nn.GELU())),
        ("clip", "clip", "clip_bounds", _setting("clip", max=1.0)),
        ("rounded_weight", "up", "lowered_precision", _weight("up", "weight", lambda w: w.bfloat16().float())),
        ("swapped_branches", "gate", "weight_duplicated weight_changed input_source", _copied("up", "gate")),
    ],
    "recurrent": [
        ("gate_order", "lstm", "gate_order", _each_gate("lstm", (0, 2, 1, 3))),
        ("gate_order", "gru", "gate_order", _each_gate("gru", (1, 0, 2))),
        ("direction", "lstm", "rnn_direction weight_duplicated", _reversed_directions),
        ("bias_missing", "gru", "bias_missing bias_split", _weight("gru", "bias_hh_l0", torch.zeros_like)),
        ("alpha", "act", "activation_alpha", _attribute("act", "alpha", 0.5)),
        ("baked_length", "mean", "baked_size constant_value", _setting("mean", length=6), True),
        ("activation", "tanh", "activation_kind operator_kind", _module("tanh", lambda old: nn.Sigmoid())),
    ],
    "detection": [
        ("padding_mode", "pad", "pad_mode", _setting("pad", mode="replicate")),
        ("padding_side", "pad", "padding", _setting("pad", pad=(0, 2, 0, 2))),
        ("groups", "norm", "groups", _attribute("norm", "num_groups", 6)),
        ("epsilon", "norm", "epsilon", _attribute("norm", "eps", 1e-3)),
        ("slopes", "act", "activation_alpha channel_order", _weight("act", "weight", lambda w: w.flip(0))),
        ("dilation", "second", "dilation", _undilated),
        ("transposed", "up", "weight_transposed", _weight("up", "weight", lambda w: w.transpose(0, 1))),
        (
            "factor",
            "join",
            "constant_value activation_alpha node_inserted",
            _setting("join", alpha=2),
            False,
            "nearest",
        ),
        ("exponent", "size", "activation_kind operator_kind", _module("size", lambda old: nn.Softplus())),
        ("clip", "clip", "clip_bounds", _setting("clip", min=-1.0)),
    ],
}
"""Network → (kind, scope, causes, plant, is_baked, beside), the last two where they are not the usual ones."""
FAULTS = tuple(
    Fault(kind, network, scope, tuple(causes.split()), *rest)
    for network, rows in _ROWS.items()
    for kind, scope, causes, *rest in rows
)
