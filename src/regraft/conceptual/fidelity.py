"""Is a network the architecture that its name says? Its layers beside those of a paper, or of another network."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import msgspec

from regraft.compare.layer_table import Layer, LayerTable
from regraft.conceptual.architectures import Architecture, architectures
from regraft.record.evidence import JSON, Draft, Evidence, Finding, Severity, Verdict

_LISTED = 20
_TABLE_ROWS = 400


class Difference(msgspec.Struct, frozen=True):
    """Where two tables part: a layer that is another one, missing (`ours` None), or extra (`theirs` None).

    Attributes:
        position: of it among the layers of the specification, or where it would stand, from 0.
        is_moved: both are the same layer, at places between which the extents of what is computed change.
    """

    position: int
    ours: Layer | None
    theirs: Layer | None
    is_moved: bool = False


def differences(
    ours: Sequence[Layer], theirs: Sequence[Layer], *, has_outputs: bool = False, is_same_work: bool | None = None
) -> list[Difference]:
    """Layers that two tables do not share, in the order of the second.

    Branches may be run in any order: what is missing at one place and extra at another is the same layer, as long
    as nothing is computed at other extents for it. The outputs of both tables tell, or that both multiply as often;
    where neither is known, a layer that passes a stride is one that was moved.

    Args:
        ours: of the network.
        theirs: of the specification.
        has_outputs: both tables know the outputs of their layers, for inputs of the same extents.
        is_same_work: whether the multiply-adds of both agree for inputs of the same extents; None where unknown.
    """
    extra, missing, shared = _aligned(ours, theirs)
    twins = list(_twins(extra, missing))
    if is_same_work is False and (extra or missing):
        is_same_work = None  # for want of these layers
    moved: list[Difference] = []
    for place, theirs_here, stands, ours_here in twins:
        passed = range(min(place, stands), max(place + 1, stands))
        if has_outputs:
            beside = [(shared[one], theirs[one]) for one in passed if one in shared]
            is_same = all(_extents(a) == _extents(b) for a, b in [(ours_here, theirs_here), *beside])
        elif is_same_work is not None:
            is_same = is_same_work
        else:
            is_same = all(set(theirs[one].stride) <= {1} for one in passed)
        if not is_same:
            moved.append(Difference(place, ours_here, theirs_here, is_moved=True))
    return sorted([*_paired(extra, missing), *moved], key=lambda difference: difference.position)


def _aligned(
    ours: Sequence[Layer], theirs: Sequence[Layer]
) -> tuple[list[tuple[int, Layer]], list[tuple[int, Layer]], dict[int, Layer]]:
    """What is extra, what is missing, and our layers that are shared; places are those of the specification."""
    extra: list[tuple[int, Layer]] = []
    missing: list[tuple[int, Layer]] = []
    shared: dict[int, Layer] = {}
    mine, wanted = [_key(layer) for layer in ours], [_key(layer) for layer in theirs]
    for tag, a, b, c, d in difflib.SequenceMatcher(a=mine, b=wanted, autojunk=False).get_opcodes():
        if tag == "equal":
            shared |= dict(zip(range(c, d), ours[a:b], strict=True))
        else:
            extra += [(c, ours[place]) for place in range(a, b)]
            missing += [(place, theirs[place]) for place in range(c, d)]
    return extra, missing, shared


def _twins(extra: list[tuple[int, Layer]], missing: list[tuple[int, Layer]]) -> Iterator[tuple[int, Layer, int, Layer]]:
    """What is missing at one place and extra at another: taken out of both lists."""
    for place, layer in list(missing):
        twin = next((other for other in extra if _key(other[1]) == _key(layer)), None)
        if twin is not None:
            missing.remove((place, layer))
            extra.remove(twin)
            yield place, layer, *twin


def _extents(layer: Layer) -> list[int]:
    """Of a convolution's output, whether channels come first or last; others may fold axes as they like."""
    return sorted(layer.output) if layer.kind == "convolution" else []


def _paired(extra: list[tuple[int, Layer]], missing: list[tuple[int, Layer]]) -> Iterator[Difference]:
    """A missing layer and an extra one of the same kind close by are one that was changed."""
    for place, layer in missing:
        near = [entry for entry in extra if entry[1].kind == layer.kind]
        best = min(near, key=lambda entry: 4 * _unlike(entry[1], layer) + abs(entry[0] - place), default=None)
        if best is not None and _unlike(best[1], layer) <= 2:
            extra.remove(best)
            yield Difference(place, best[1], layer)
        else:
            yield Difference(place, None, layer)
    for place, layer in extra:
        yield Difference(place, layer, None)


def _key(layer: Layer) -> tuple[object, ...]:
    return (
        layer.kind, layer.channels_in, layer.channels_out, layer.kernel, layer.stride, layer.dilation, layer.groups
    )  # fmt: skip


def _unlike(a: Layer, b: Layer) -> int:
    return sum(mine != other for mine, other in zip(_key(a), _key(b), strict=True))


def judge_fidelity(draft: Draft, table: LayerTable, spec: Architecture, side: tuple[int, ...] = ()) -> Evidence:
    """Compare a network's layers with a specification, and say what is other.

    Args:
        draft: with subjects and materials.
        table: of the network.
        spec: what it should be.
        side: extents of the pictures that the package prepares, height and width; empty where it does not say.
    Returns:
        evidence of kind `fidelity`: faithful passes, unfaithful fails; undecided (inconclusive) where no layer was
        compared.
    """
    found = _differences(table, spec)
    backbone = [one for one in found if not _is_head(one, spec)]
    matched = len(spec.layers) - sum(one.theirs is not None for one in found)
    for one in found[:_LISTED]:
        draft.find(_finding(one, is_head=one not in backbone))
    if len(found) > _LISTED:
        draft.find(Finding("fidelity.more", Severity.INFO, f"{len(found) - _LISTED} more layers differ"))
    wrong_size = bool(side and spec.input and side != spec.input[1:])
    if wrong_size:
        draft.find(_wrong_size(side, spec))
    _measure(draft, table, spec, headless=len(backbone) < len(found), is_same=not found)
    nearest = _nearest(table, spec, len(backbone)) if backbone else None
    if nearest is not None:
        message = f"the layers are those of {nearest.name} ({nearest.source})"
        draft.find(Finding("fidelity.is_another", Severity.HIGH, message, data={"architecture": nearest.name}))
    draft.find(_table(table))
    is_faithful = not backbone and not wrong_size
    if is_faithful and not matched:
        summary = f"no layer of {spec.name} was compared: nothing but a head is specified"
        draft.find(Finding("fidelity.cannot_list", Severity.UNKNOWN, summary))
        return draft.finish(outcome="undecided", summary=summary)
    summary = _summary(spec, backbone, found, nearest, wrong_size=wrong_size)
    verdict = Verdict.PASS if is_faithful else Verdict.FAIL
    return draft.finish(outcome="faithful" if is_faithful else "unfaithful", summary=summary, verdict=verdict)


def _differences(table: LayerTable, spec: Architecture) -> list[Difference]:
    """With what both sides know of the extents inside."""
    sample = next(iter(table.inputs.values()), ())[1:]
    told = spec.fed or spec.input
    is_same_input = bool(told) and sorted(sample) == sorted(told)
    return differences(
        table.layers,
        spec.layers,
        has_outputs=is_same_input and bool(spec.fed),
        is_same_work=_is_same_work(table, spec) if is_same_input else None,
    )


def _is_same_work(table: LayerTable, spec: Architecture) -> bool | None:
    """Multiply-adds agree to the last digit that is published, but for another head or none; None: not published."""
    if spec.multiply_adds is None or not table.layers or not spec.layers:
        return None
    ours, last, head = table.multiply_adds, table.layers[-1], spec.layers[-1]
    if _has_other_classes(last, head):
        ours += last.multiply_adds // last.channels_out * (head.channels_out - last.channels_out)
    elif head.kind == "linear" and last.kind != "linear":
        ours += head.channels_in * head.channels_out
    digits = str(spec.multiply_adds)
    unit = 10 ** (len(digits) - len(digits.rstrip("0")))
    return bool(2 * abs(ours - spec.multiply_adds) <= unit)


def _is_head(difference: Difference, spec: Architecture) -> bool:
    """A classifier that was left off, or made for other classes, is no infidelity of the network before it."""
    theirs, ours = difference.theirs, difference.ours
    if theirs is None or difference.is_moved or difference.position != len(spec.layers) - 1:
        return False
    if ours is None:
        is_pointwise = theirs.kind == "convolution" and set(theirs.kernel) == set(theirs.stride) == {1}
        return theirs.kind == "linear" or (is_pointwise and theirs.groups == 1)
    return _has_other_classes(ours, theirs)


def _has_other_classes(ours: Layer, theirs: Layer) -> bool:
    """They differ in the channels that they make, and in nothing else."""
    return (
        ours.channels_out != theirs.channels_out
        and _unlike(ours, theirs) == 1
        and (ours.kind in ("linear", "convolution"))
    )


def _finding(one: Difference, *, is_head: bool) -> Finding:
    severity = Severity.INFO if is_head else Severity.HIGH
    data: dict[str, JSON] = {"position": one.position}
    if one.ours is not None:
        data |= {"layer": one.ours.name, "is": written(one.ours)}
    if one.theirs is not None:
        data["should_be"] = written(one.theirs)
    if one.is_moved:
        assert one.theirs is not None
        message = f"a layer stands where the extents are others: {written(one.theirs)}"
        return Finding("fidelity.layer_moved", severity, message, data=data)
    if one.ours is None:
        assert one.theirs is not None
        what = "the head is left off" if is_head else "a layer is missing"
        return Finding("fidelity.layer_missing", severity, f"{what}: {written(one.theirs)}", data=data)
    if one.theirs is None:
        return Finding("fidelity.layer_extra", severity, f"a layer is extra: {written(one.ours)}", data=data)
    what = "the head has other classes" if is_head else f"layer {one.position} is another one"
    parts = ", ".join(_other(one.ours, one.theirs))
    return Finding("fidelity.layer_differs", severity, f"{what}: {parts}, in {written(one.theirs)}", data=data)


def _other(ours: Layer, theirs: Layer) -> Iterator[str]:
    words = ("kind", "channels in", "channels out", "kernel", "stride", "dilation", "groups")
    for word, mine, wanted in zip(words, _key(ours), _key(theirs), strict=True):
        if mine != wanted:
            yield f"{word} {_short(mine)} for {_short(wanted)}"


def _short(value: object) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _wrong_size(side: tuple[int, ...], spec: Architecture) -> Finding:
    message = f"the package prepares pictures of {_short(side)}, {spec.name} was published for {_short(spec.input[1:])}"
    return Finding("fidelity.input_size", Severity.HIGH, message, data={"is": [*side], "should_be": [*spec.input]})


def _measure(draft: Draft, table: LayerTable, spec: Architecture, *, headless: bool, is_same: bool) -> None:
    draft.measure("parameters", table.parameters, "1")
    draft.measure("multiply_adds", table.multiply_adds, "1", of={k: _short(v) for k, v in table.inputs.items()})
    if spec.parameters is not None:
        draft.measure("parameters_published", spec.parameters, "1", of={"source": spec.source})
        if is_same and table.parameters != spec.parameters and not headless:
            message = f"{table.parameters:,} parameters, {spec.parameters:,} are published: norms or biases differ"
            draft.find(Finding("fidelity.parameters", Severity.LOW, message))
    if spec.multiply_adds is not None:
        draft.measure("multiply_adds_published", spec.multiply_adds, "1", of={"input": _short(spec.fed or spec.input)})


def _nearest(table: LayerTable, spec: Architecture, distance: int) -> Architecture | None:
    """The published architecture whose layers these are, if there is one."""
    others = [known for known in architectures() if known.name != spec.name]
    counted = [(sum(not _is_head(d, known) for d in _differences(table, known)), known) for known in others]
    fewest, known = min(counted, key=lambda entry: entry[0])
    return known if not fewest and distance else None


def _table(table: LayerTable) -> Finding:
    rows: list[JSON] = [f"{written(layer)} → {_short(layer.output)}" for layer in table.layers[:_TABLE_ROWS]]
    return Finding("fidelity.table", Severity.INFO, f"{len(table.layers)} layers with weights", data={"layers": rows})


def written(layer: Layer) -> str:
    """As `architectures.row` reads it."""
    if layer.kind != "convolution":
        word = {"recurrent": "lstm"}.get(layer.kind, layer.kind)
        return f"{word} {layer.channels_in} {layer.channels_out}"
    word = {1: "conv1d", 3: "conv3d"}.get(len(layer.kernel), "conv")
    kernel, stride, dilation = ("x".join(map(str, part)) for part in (layer.kernel, layer.stride, layer.dilation))
    text = f"{word} {layer.channels_in} {layer.channels_out} k{kernel} s{stride}"
    text += f" g{layer.groups}" if layer.groups > 1 else ""
    return text + (f" d{dilation}" if set(layer.dilation) != {1} else "")


def _summary(
    spec: Architecture,
    backbone: Sequence[Difference],
    found: Sequence[Difference],
    nearest: Architecture | None,
    *,
    wrong_size: bool,
) -> str:
    if not backbone:
        head = "; its head is another one, or left off" if found else ""
        size = "; the size of its pictures is another one" if wrong_size else ""
        return f"the layers are those of {spec.name}{head}{size}"
    moved = sum(one.is_moved for one in backbone)
    changed = sum(one.ours is not None and one.theirs is not None for one in backbone) - moved
    missing, extra = sum(one.ours is None for one in backbone), sum(one.theirs is None for one in backbone)
    counts = ((changed, "other"), (missing, "missing"), (extra, "extra"), (moved, "moved"))
    parts = [f"{count} {word}" for count, word in counts if count]
    instead = f"; they are those of {nearest.name}" if nearest is not None else ""
    return f"not {spec.name}: {', '.join(parts)} of its {len(spec.layers)} layers{instead}"
