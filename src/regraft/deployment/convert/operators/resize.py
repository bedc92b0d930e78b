"""Resize: axis by axis, elements picked by place and weighed, as ONNX defines it.

Source: ONNX operators, Resize (versions 10 to 19); Keys 1981 for the cubic kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from regraft.deployment.convert.operators.interface import Family
from regraft.deployment.convert.operators.known_numbers import Numbers, listed, sym_int
from regraft.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

FAMILY = Family()


@FAMILY.maps("Upsample(X, #scales; mode='nearest')")
def _upsample(x: Tensor, scales: Numbers, mode: str) -> Tensor:
    return _resized(x, listed(scales), None, {"mode": mode, "coordinate_transformation_mode": "asymmetric"})


@FAMILY.maps("Resize(X, #scales; mode='nearest')", until=10)
def _resize_10(x: Tensor, scales: Numbers, mode: str) -> Tensor:
    return _resized(x, listed(scales), None, {"mode": mode, "coordinate_transformation_mode": "asymmetric"})


@FAMILY.maps(
    "Resize(X, #roi?, #scales?, #sizes?; antialias=0, axes?, coordinate_transformation_mode='half_pixel',"
    " cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0, keep_aspect_ratio_policy='stretch',"
    " mode='nearest', nearest_mode='round_prefer_floor')",
    since=11,
)
def _resize(x: Tensor, roi: Numbers | None, scales: Numbers | None, sizes: Numbers | None, **options: Any) -> Tensor:
    if options["antialias"] or options["keep_aspect_ratio_policy"] != "stretch":
        raise Unsupported("Resize with antialias, or a policy for the aspect ratio, has no mapping")
    if options["coordinate_transformation_mode"] == "tf_crop_and_resize":
        raise Unsupported("Resize by tf_crop_and_resize has no mapping")
    axes = [axis % x.ndim for axis in options["axes"]] if options["axes"] else list(range(x.ndim))
    given_scales = listed(scales) if scales is not None and scales.size else None
    given_sizes = listed(sizes) if sizes is not None and sizes.size else None
    factors: list[Any] = [1.0] * x.ndim
    wanted: list[Any] | None = None if given_sizes is None else [*x.shape]
    for i, axis in enumerate(axes):
        if given_scales is not None:
            factors[axis] = given_scales[i]
        if wanted is not None and given_sizes is not None:
            wanted[axis] = given_sizes[i]
    return _resized(x, factors, wanted, options)


def _resized(x: Tensor, factors: Sequence[Any], sizes: Sequence[Any] | None, options: dict[str, Any]) -> Tensor:
    for axis in range(x.ndim):
        size = x.shape[axis]
        if sizes is not None:
            wanted, factor = sizes[axis], None
            if isinstance(wanted, int) and isinstance(size, int) and wanted == size:
                continue
        else:
            factor = factors[axis]
            if factor == 1.0:
                continue
            wanted = _scaled(size, factor)
        x = _along(x, axis, wanted, factor, options)
    return x


def _scaled(size: Any, factor: Any) -> Any:
    """Floor of the product; a whole factor keeps symbols simple."""
    if isinstance(factor, float) and factor == int(factor):
        return size * int(factor)
    if isinstance(size, int):
        return int(size * factor)
    return sym_int(size * factor)


def _along(x: Tensor, axis: int, wanted: Any, factor: Any, options: dict[str, Any]) -> Tensor:
    size = x.shape[axis]
    mode = options["mode"]
    if mode == "nearest" and factor is not None and factor == int(factor) and _repeats(options):
        return x.repeat_interleave(int(factor), dim=axis)
    kind = x.dtype if x.is_floating_point() else torch.float32
    places = _coordinates(size, wanted, factor, options["coordinate_transformation_mode"], kind)
    if mode == "nearest":
        return torch.index_select(x, axis, _nearest(places, options.get("nearest_mode", "floor")).clamp(0, size - 1))
    shape = [1] * x.ndim
    shape[axis] = -1
    first = torch.floor(places)
    share = places - first
    total = None
    for offset, weight in _weights(share, mode, options, first.long(), size):
        picked = torch.index_select(x, axis, (first.long() + offset).clamp(0, size - 1))
        part = picked * weight.reshape(shape)
        total = part if total is None else total + part
    assert total is not None
    return total.to(x.dtype)


def _repeats(options: dict[str, Any]) -> bool:
    """Whole factors repeat each element, however the place is rounded, where places are taken like this."""
    way, rounding = options["coordinate_transformation_mode"], options.get("nearest_mode", "floor")
    return (way, rounding) == ("asymmetric", "floor") or (
        way == "half_pixel" and rounding in ("round_prefer_floor", "round_prefer_ceil")
    )


def _coordinates(size: Any, wanted: Any, factor: Any, way: str, kind: torch.dtype) -> Any:
    """Where in the source each element of the result lies."""
    steps = torch.arange(wanted).to(kind)
    ratio = size / wanted if factor is None else 1.0 / factor
    if way == "asymmetric":
        return steps * ratio
    if way == "align_corners":
        exact = wanted if factor is None else size * factor
        return steps * ((size - 1) / (exact - 1)) if not isinstance(exact, int) or exact > 1 else steps * 0.0
    if way == "pytorch_half_pixel" and isinstance(wanted, int) and wanted == 1:
        return steps * 0.0
    if way == "half_pixel_symmetric" and factor is not None:
        exact = size * factor
        return size / 2 * (1 - wanted / exact) + (steps + 0.5) * ratio - 0.5
    if way in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return (steps + 0.5) * ratio - 0.5
    raise Unsupported(f"Resize by {way} has no mapping")


def _nearest(places: Tensor, rounding: str) -> Tensor:
    if rounding == "floor":
        return torch.floor(places).long()
    if rounding == "ceil":
        return torch.ceil(places).long()
    if rounding == "round_prefer_ceil":
        return torch.floor(places + 0.5).long()
    return torch.ceil(places - 0.5).long()


def _weights(share: Tensor, mode: str, options: dict[str, Any], first: Tensor, size: Any) -> list[tuple[int, Tensor]]:
    """(offset, weight) of the elements that each result is made of."""
    if mode in ("linear", "bilinear"):
        found = [(0, 1 - share), (1, share)]
    elif mode == "cubic":
        found = [(offset, _cubic(share - offset, options["cubic_coeff_a"])) for offset in (-1, 0, 1, 2)]
    else:
        raise Unsupported(f"Resize in mode {mode} has no mapping")
    if not options.get("exclude_outside"):
        return found
    inside = [(o, w * ((first + o >= 0) & (first + o < size)).to(w.dtype)) for o, w in found]
    whole = torch.stack([weight for _, weight in inside]).sum(0)
    return [(offset, weight / whole) for offset, weight in inside]


def _cubic(distance: Tensor, a: float) -> Tensor:
    d = distance.abs()
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
