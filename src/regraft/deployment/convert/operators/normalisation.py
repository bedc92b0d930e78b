"""Normalisations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812  its customary name

from regraft.deployment.convert.operators.interface import Family
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.deployment.convert.operators.network import Call

FAMILY = Family()


@FAMILY.maps(
    "BatchNormalization(X, scale, B, input_mean, input_var; epsilon=1e-05, momentum=0.9, training_mode=0, spatial=1,"
    " is_test=1, consumed_inputs?)"
)
def _batch_norm(
    call: Call,
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float,
    training_mode: int,
    spatial: int,
    **_: object,
) -> Tensor:
    if training_mode or not spatial:
        raise Unsupported("BatchNormalization in training mode, or not per channel, has no mapping")
    if x.dtype == scale.dtype == mean.dtype:
        return F.batch_norm(x, mean, var, scale, b, training=False, eps=epsilon)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    factor = scale / torch.sqrt(var + epsilon)
    return (x * factor.reshape(shape) + (b - mean * factor).reshape(shape)).to(x.dtype)


@FAMILY.maps("InstanceNormalization(input, scale, B; epsilon=1e-05, consumed_inputs?)")
def _instance_norm(x: Tensor, scale: Tensor, b: Tensor, epsilon: float, consumed_inputs: object) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=b, eps=epsilon)


@FAMILY.maps("LayerNormalization(X, Scale, B?; axis=-1, epsilon=1e-05, stash_type=1)")
def _layer_norm(
    call: Call, x: Tensor, scale: Tensor, b: Tensor | None, axis: int, epsilon: float, stash_type: int
) -> Tensor | tuple[Tensor, ...]:
    axis = axis % x.ndim
    shape = x.shape[axis:]
    if call.outputs == 1 and scale.shape == shape and all(isinstance(size, int) for size in shape):
        return F.layer_norm(x, [*shape], scale, b, epsilon)
    axes = list(range(axis, x.ndim))
    mean = torch.mean(x, axes, keepdim=True)
    inverse = torch.rsqrt(torch.mean((x - mean) ** 2, axes, keepdim=True) + epsilon)
    result = (x - mean) * inverse * scale
    return (result if b is None else result + b), mean, inverse


@FAMILY.maps("RMSNormalization(X, scale; axis=-1, epsilon=1e-05, stash_type=1)")
def _rms_norm(x: Tensor, scale: Tensor, axis: int, epsilon: float, stash_type: int) -> Tensor:
    axes = list(range(axis % x.ndim, x.ndim))
    return x * torch.rsqrt(torch.mean(x * x, axes, keepdim=True) + epsilon) * scale


@FAMILY.maps("GroupNormalization(X, scale, bias; epsilon=1e-05, num_groups, stash_type=1)", since=21)
def _group_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float, num_groups: int, stash_type: int) -> Tensor:
    return F.group_norm(x, num_groups, scale, bias, epsilon)


@FAMILY.maps("GroupNormalization(X, scale, bias; epsilon=1e-05, num_groups)", since=18, until=20)
def _group_norm_by_group(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float, num_groups: int) -> Tensor:
    """Scale and bias were one number a group then."""
    each = x.shape[1] // num_groups
    return F.group_norm(x, num_groups, scale.repeat_interleave(each), bias.repeat_interleave(each), epsilon)


@FAMILY.maps("LRN(X; alpha=0.0001, beta=0.75, bias=1.0, size)")
def _local_response_norm(x: Tensor, alpha: float, beta: float, bias: float, size: int) -> Tensor:
    squares = F.pad((x * x).unsqueeze(1), [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2])
    total = squares.unfold(2, size, 1).sum(-1).squeeze(1)
    return x / (bias + alpha / size * total) ** beta


@FAMILY.maps("LpNormalization(input; axis=-1, p=2)")
def _power_norm(x: Tensor, axis: int, p: int) -> Tensor:
    length = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(length == 0, torch.zeros_like(x), x / length)


@FAMILY.maps("MeanVarianceNormalization(X; axes=[0, 2, 3])")
def _mean_variance_norm(x: Tensor, axes: list[int]) -> Tensor:
    mean = torch.mean(x, axes, keepdim=True)
    spread = torch.sqrt(torch.mean(x * x, axes, keepdim=True) - mean * mean)
    return (x - mean) / (spread + 1e-9)
