"""Hypotheses about pictures and other grids of numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from regraft.conceptual.stages.sample_causes import Family, Named, StepCase, ran, same, single

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array

_MAX_SHIFT = 48


def _grid(case: StepCase) -> tuple[Array, Array] | None:
    pair = single(case)
    return pair if pair is not None and min(pair[0].ndim, pair[1].ndim) >= 2 else None


def _axes(value: Array) -> list[int]:
    """Axes that may be those of the colours."""
    return [axis for axis, size in enumerate(value.shape) if size in (3, 4)]


def _channels(case: StepCase) -> Iterator[Named]:
    import numpy as np

    pair = _grid(case)
    if pair is None:
        return
    ours, theirs = pair
    for axis in _axes(ours):
        if same(np.flip(ours, axis), theirs):
            yield Named(
                "channel order", "BGR in one, RGB in the other: the colours are reversed", "reverse the channels"
            )
    given = ran(lambda value: value, case.given)
    if given is not None:
        for axis in _axes(given):
            made = ran(case.run_ours, np.flip(given, axis).copy())
            if made is not None and same(made, theirs):
                detail = "the candidate works on BGR where the reference works on RGB: the colours are reversed"
                yield Named("channel order", detail, "reverse the channels first")


def _layout(case: StepCase) -> Iterator[Named]:
    pair = _grid(case)
    if pair is None or pair[0].ndim != pair[1].ndim or pair[0].ndim > 4:
        return
    ours, theirs = pair
    for order in itertools.permutations(range(ours.ndim)):
        if order != tuple(range(ours.ndim)) and same(ours.transpose(order), theirs):
            yield Named("layout", f"the candidate's axes are the reference's in the order {order}", "transpose")


def _flipped(case: StepCase) -> Iterator[Named]:
    import numpy as np

    pair = _grid(case)
    if pair is None:
        return
    for axis in range(pair[0].ndim):
        if same(np.flip(pair[0], axis), pair[1]):
            yield Named("flip", f"the candidate is reversed along axis {axis}")


def _affine(case: StepCase) -> Iterator[Named]:
    """Each channel of the candidate is a multiple of the reference's plus a number."""
    import numpy as np

    pair = single(case)
    if pair is None or pair[0].shape != pair[1].shape or pair[0].size < 4:
        return
    ours, theirs = (one.astype(np.float64) for one in pair)
    for axis in [None, *_axes(ours)]:
        fits = _fits(ours, theirs, axis)
        if fits is None:
            continue
        yield _named_fit(case, fits, axis)
        return


def _fits(ours: Array, theirs: Array, axis: int | None) -> list[tuple[float, float]] | None:
    """(factor, offset) of each channel; None where some channel has none."""
    import numpy as np

    parts = [(ours, theirs)] if axis is None else [
        (ours.take(i, axis), theirs.take(i, axis)) for i in range(ours.shape[axis])
    ]  # fmt: skip
    found = []
    for one, other in parts:
        flat = one.reshape(-1)
        if np.ptp(flat) == 0:
            return None
        factor, offset = np.polyfit(flat, other.reshape(-1), 1)
        scale = float(np.abs(other).max(initial=0.0)) or 1.0
        if np.abs(one * factor + offset - other).max(initial=0.0) > 1e-5 * max(
            scale, abs(factor) * float(np.abs(one).max())
        ):
            return None
        found.append((float(factor), float(offset)))
    return found


def _named_fit(case: StepCase, fits: list[tuple[float, float]], axis: int | None) -> Named:
    factors = [factor for factor, _ in fits]
    is_scale = axis is None and abs(fits[0][1]) < 1e-6 * max(1.0, abs(fits[0][0]))
    if is_scale and any(abs(factors[0] / one - 1) < 1e-4 for one in (255.0, 1 / 255.0, 256.0, 1 / 256.0)):
        ranges = ("0 to 255", "0 to 1") if factors[0] < 1 else ("0 to 1", "0 to 255")
        return Named("value range", f"{ranges[0]} in the reference, {ranges[1]} in the candidate")
    constants = _constants(case, fits, axis)
    if constants is not None:
        return Named("normalisation constants", constants, "use the reference's mean and standard deviation")
    told = "; ".join(f"{factor:.5g} times it {offset:+.5g}" for factor, offset in fits)
    return Named("normalisation constants", f"the candidate is the reference's result, by channel: {told}")


def _constants(case: StepCase, fits: list[tuple[float, float]], axis: int | None) -> str | None:
    """Mean and deviation of both, where the reference's result is (sample − mean) / deviation."""
    import numpy as np

    given, pair = ran(lambda value: value, case.given), single(case)
    if given is None or pair is None or given.shape != pair[0].shape:
        return None
    ours = _fits(given.astype(np.float64), pair[0].astype(np.float64), axis)
    if ours is None or any(factor == 0 for factor, _ in ours):
        return None
    told = []
    for values in (ours, [(f * a, f * b + c) for (a, b), (f, c) in zip(ours, fits, strict=True)]):
        if any(factor == 0 for factor, _ in values):
            return None
        means = ", ".join(f"{-offset / factor:.4g}" for factor, offset in values)
        deviations = ", ".join(f"{1 / factor:.4g}" for factor, _ in values)
        told.append(f"mean {means} and deviation {deviations}")
    return f"{told[0]} in the reference, {told[1]} in the candidate"


def _per_sample(case: StepCase) -> Iterator[Named]:
    """One side normalises by the sample's own mean and deviation."""
    import numpy as np

    pair = single(case)
    if pair is None or pair[0].dtype.kind != "f":
        return
    for side, one in (("candidate", pair[1]), ("reference", pair[0])):
        own = one.astype(np.float64)
        if own.size > 16 and abs(own.mean()) < 1e-3 and abs(own.std() - 1.0) < 1e-3:
            yield Named("normalisation constants", f"the {side} normalises by the sample's own mean and deviation")
            return


def _clipped(case: StepCase) -> Iterator[Named]:
    import numpy as np

    pair = single(case)
    if pair is None or pair[0].shape != pair[1].shape or pair[0].dtype.kind != "f":
        return
    for side, one, other in (("candidate", pair[1], pair[0]), ("reference", pair[0], pair[1])):
        low, high = float(one.min()), float(one.max())
        if same(np.clip(other, low, high), one) and (float(other.min()) < low or float(other.max()) > high):
            yield Named("clipping", f"the {side} clips values to {low:.4g} … {high:.4g}")
            return


def _window(case: StepCase) -> Iterator[Named]:
    """Both are windows of the same picture, at other places or of other sizes."""
    pair, given = _grid(case), ran(lambda value: value, case.given)
    if pair is None or given is None or given.ndim < 2:
        return
    places = [_place(given, one) for one in pair]
    if None in places:
        return
    ours, theirs = places
    sizes = [_plane(one) for one in pair]
    if sizes[0] != sizes[1]:
        yield Named("crop size", f"{_times(sizes[0])} in the reference, {_times(sizes[1])} in the candidate")
    elif ours != theirs:
        yield Named("crop offset", f"from row and column {ours} in the reference, {theirs} in the candidate")


def _plane(value: Array) -> tuple[int, ...]:
    axes = [axis for axis in range(value.ndim) if not (value.ndim == 3 and value.shape[axis] in (1, 3, 4))]
    return tuple(value.shape[axis] for axis in axes[-2:])


def _times(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes))


def _place(given: Array, part: Array) -> tuple[int, int] | None:
    """Row and column at which a picture holds a part; colours are the last axis or the first."""
    import numpy as np

    if part.ndim != given.ndim:
        return None
    first = 1 if given.ndim == 3 and given.shape[0] in (1, 3, 4) and part.shape[0] == given.shape[0] else 0
    (height, width), (rows, columns) = given.shape[first : first + 2], part.shape[first : first + 2]
    if rows > height or columns > width or max(height - rows, width - columns) > 4096:
        return None
    plane = given[0] if first else given[..., 0] if given.ndim == 3 else given
    wanted = part[0] if first else part[..., 0] if part.ndim == 3 else part
    if first + 2 < given.ndim and given.shape[2:] != part.shape[2:]:
        return None
    corner = wanted[0, 0]
    for row, column in np.argwhere(plane[: height - rows + 1, : width - columns + 1] == corner)[: 1 << 14]:
        if np.array_equal(plane[row : row + rows, column : column + columns], wanted):
            return int(row), int(column)
    return None


def _moved(case: StepCase) -> Iterator[Named]:
    """The candidate's picture is the reference's, some rows or columns further."""
    pair = _grid(case)
    if pair is None or pair[0].shape != pair[1].shape:
        return
    ours, theirs = pair
    first = 1 if ours.ndim == 3 and ours.shape[0] in (1, 3, 4) else 0
    for row, column in itertools.product(range(-2, 3), repeat=2):
        if (row, column) == (0, 0):
            continue
        a, b = [slice(None)] * ours.ndim, [slice(None)] * ours.ndim
        for axis, shift in ((first, row), (first + 1, column)):
            a[axis] = slice(max(0, shift), ours.shape[axis] + min(0, shift))
            b[axis] = slice(max(0, -shift), ours.shape[axis] + min(0, -shift))
        if ours[tuple(a)].size and same(ours[tuple(a)], theirs[tuple(b)]):
            yield Named("crop offset", f"the candidate is {row} rows and {column} columns further")
            return


def _resized(case: StepCase) -> Iterator[Named]:
    """Both are resizes of the same picture: by which filter, to which size."""
    pair, given = _grid(case), ran(lambda value: value, case.given)
    if pair is None or given is None or given.ndim not in (2, 3):
        return
    ours, theirs = pair
    if _plane(ours) != _plane(theirs):
        yield Named("size", f"{_times(_plane(ours))} in the reference, {_times(_plane(theirs))} in the candidate")
        return
    if _plane(ours) == _plane(given) or ours.shape != theirs.shape:
        return
    names = [_filter(given, one) for one in pair]
    if names[0] != names[1]:
        words = [name or "a filter that is not known" for name in names]
        yield Named("interpolation", f"{words[0]} in the reference, {words[1]} in the candidate")


def _filter(given: Array, resized: Array) -> str:
    """The filter that makes a resized picture from the given one; empty for one that is not known."""
    import numpy as np

    size = _plane(resized)
    first = 1 if given.ndim == 3 and given.shape[0] in (1, 3, 4) else 0
    picture = np.moveaxis(given, 0, -1) if first else given
    wanted = np.moveaxis(resized, 0, -1) if first else resized
    best, least = "", 1.5 if wanted.dtype.kind in "iu" or float(np.abs(wanted).max(initial=0.0)) > 2.0 else 0.02
    for name, made in _resizes(picture, size):
        if made.shape == wanted.shape:
            gap = float(np.abs(made.astype(np.float64) - wanted).mean())
            if gap < least:
                best, least = name, gap
    return best


def _resizes(picture: Array, size: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    from regraft.errors import MissingExtra

    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("pillow", extra="image") from error
    import numpy as np

    width_height = (int(size[1]), int(size[0]))
    filters = ("NEAREST", "BILINEAR", "BICUBIC", "LANCZOS", "BOX", "HAMMING")
    planes = picture if picture.ndim == 3 else picture[..., None]
    for name in filters:
        kind = getattr(Image.Resampling, name)
        made = [
            np.asarray(Image.fromarray(planes[..., i].astype(np.float32)).resize(width_height, kind))
            for i in range(planes.shape[-1])
        ]
        yield _word(name), _like(np.stack(made, axis=-1), picture)
    for name, at in (("nearest", _nearest), ("bilinear", _bilinear)):
        yield f"{name} without antialiasing", _like(at(planes.astype(np.float64), size), picture)


def _word(name: str) -> str:
    return name.lower() if name == "NEAREST" else f"{name.lower()} with antialiasing"


def _like(made: Array, picture: Array) -> Array:
    import numpy as np

    shaped = made if picture.ndim == 3 else made[..., 0]
    return np.clip(np.rint(shaped), 0, 255) if picture.dtype == np.uint8 else shaped


def _nearest(planes: Array, size: tuple[int, ...]) -> Array:
    import numpy as np

    rows, columns = ((np.arange(n) * (m / n)).astype(int) for n, m in zip(size, planes.shape[:2], strict=True))
    made: Array = planes[rows][:, columns]
    return made


def _bilinear(planes: Array, size: tuple[int, ...]) -> Array:
    """Between the two nearest rows and columns, with pixels' centres at halves."""
    import numpy as np

    made: Any = planes
    for axis, (wanted, given) in enumerate(zip(size, planes.shape[:2], strict=True)):
        place = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, given - 1)
        share = (place - low).reshape([-1 if i == axis else 1 for i in range(3)])
        made = made.take(low, axis) * (1 - share) + made.take(high, axis) * share
    result: Array = made
    return result


IMAGE_FAMILIES: tuple[Family, ...] = (
    _channels, _layout, _flipped, _window, _affine, _resized, _clipped, _moved, _per_sample,
)  # fmt: skip
