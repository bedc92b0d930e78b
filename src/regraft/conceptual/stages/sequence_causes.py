"""Hypotheses about texts, tokens, labels and signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from regraft.conceptual.stages.sample_causes import Family, Named, StepCase, ran, same, single

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Array


def _texts(case: StepCase) -> Iterator[Named]:
    """The candidate's step, on a text that was changed first; or the reference's."""
    given = case.given
    if not isinstance(given, str):
        return
    pair = single(case)
    if pair is None:
        return
    changes: dict[str, Callable[[str], str]] = {
        "lower-casing": str.lower,
        "stripping of accents": _plain,
        "stripping of blanks": lambda text: " ".join(text.split()),
        "NFKC normalisation": _nfkc,
    }
    for word, change in changes.items():
        if change(given) == given:
            continue
        for side, other, run, wanted in (
            ("candidate", "reference", case.run_ours, pair[1]), ("reference", "candidate", case.run_theirs, pair[0]),
        ):  # fmt: skip
            made = ran(run, change(given))
            if made is not None and same(made, wanted):
                yield Named(word, f"the {side} does it to texts, the {other} does not")


def _plain(text: str) -> str:
    import unicodedata

    return "".join(one for one in unicodedata.normalize("NFD", text) if not unicodedata.combining(one))


def _nfkc(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFKC", text)


def _tokens(case: StepCase) -> Iterator[Named]:
    """Sequences of whole numbers: cut, padded, moved, with or without special tokens."""
    import numpy as np

    pair = single(case)
    if pair is None or any(one.dtype.kind not in "iu" or one.ndim != 1 for one in pair):
        return
    ours, theirs = pair
    bare = [_stripped(one) for one in pair]
    if ours.size == theirs.size and np.array_equal(bare[0][0], bare[1][0]):
        (_, my_pad, my_side), (_, their_pad, their_side) = bare
        if my_side != their_side and "" not in (my_side, their_side):
            yield Named("padding side", f"{my_side} in the reference, {their_side} in the candidate")
        elif my_pad != their_pad:
            yield Named("padding value", f"{my_pad} in the reference, {their_pad} in the candidate")
    for side, short, long in (("candidate", theirs, ours), ("reference", ours, theirs)):
        yield from _shorter(side, short, long)
    if ours.size == theirs.size and sorted(ours.tolist()) == sorted(theirs.tolist()):
        if np.array_equal(ours[::-1], theirs):
            yield Named("order", "the candidate's sequence is reversed")
        else:
            yield Named("order", "the same numbers in another order")
    yield from _truncated(ours, theirs)


def _stripped(tokens: Array) -> tuple[Array, int, str]:
    """Tokens without what is repeated at one end, that number, and the end."""
    import numpy as np

    for end, one in (("right", tokens), ("left", tokens[::-1])):
        if one.size >= 2 and one[-1] == one[-2]:
            length = int(np.flatnonzero(one != one[-1])[-1]) + 1 if (one != one[-1]).any() else 0
            kept = one[:length]
            return (kept if end == "right" else kept[::-1]), int(one[-1]), end
    return tokens, -1, ""


def _shorter(side: str, short: Array, long: Array) -> Iterator[Named]:
    import numpy as np

    gap = long.size - short.size
    if gap <= 0 or not short.size:
        return
    other = "reference" if side == "candidate" else "candidate"
    bare, pad, end = _stripped(long)
    if end and bare.size <= short.size and short.size < long.size:
        mine, _, _ = _stripped(short)
        if np.array_equal(mine, bare) or np.array_equal(short, bare):
            yield Named("padding length", f"{long.size} in the {other}, {short.size} in the {side}, padded with {pad}")
            return
    ends = [(start, gap - start) for start in range(min(gap, 2) + 1) if gap <= 2]
    for before, after in ends:
        if np.array_equal(long[before : long.size - after], short):
            added = [*long[:before].tolist(), *long[long.size - after :].tolist()]
            yield Named("special tokens", f"the {side} lacks {', '.join(map(str, added))} of the {other}")
            return
    if np.array_equal(long[: short.size], short):
        yield Named("truncation", f"the {side} cuts to {short.size}, the {other} has {long.size}")
    elif np.array_equal(long[gap:], short):
        yield Named("truncation", f"the {side} keeps the last {short.size}, the {other} has {long.size}")
    elif np.array_equal(long[: short.size - 1], short[:-1]) and long[-1] == short[-1]:
        yield Named("truncation", f"the {side} cuts to {short.size}, the {other} has {long.size}")


def _truncated(ours: Array, theirs: Array) -> Iterator[Named]:
    """Equal lengths, of which one was cut earlier and filled up."""
    import numpy as np

    if ours.size != theirs.size:
        return
    for side, one, other in (("candidate", theirs, ours), ("reference", ours, theirs)):
        bare, pad, end = _stripped(one)
        if end == "right" and 0 < bare.size < other.size and np.array_equal(other[: bare.size - 1], bare[:-1]):
            yield Named("truncation", f"the {side} cuts to {bare.size} and fills up with {pad}")


def _labels(case: StepCase) -> Iterator[Named]:
    """A label that is another whole number."""
    from regraft.conceptual.stages.pipeline import as_arrays

    pairs = list(zip(as_arrays(case.ours).items(), as_arrays(case.theirs).values(), strict=False))
    differing = [(name, a, b) for (name, a), b in pairs if not same(a, b)]
    if len(differing) == 1 and differing[0][1].size == 1 and differing[0][1].dtype.kind in "iu":
        _, ours, theirs = differing[0]
        if theirs.size == 1 and theirs.dtype.kind in "iu":
            detail = f"{int(ours.reshape(-1)[0])} in the reference, {int(theirs.reshape(-1)[0])} in the candidate"
            yield Named("label order", detail, "use the same order of labels")


def _signals(case: StepCase) -> Iterator[Named]:
    """One-dimensional signals: resampled, one channel of several, cut or filled with zeros."""
    import numpy as np

    pair = single(case)
    if pair is None:
        return
    ours, theirs = pair
    if ours.dtype.kind != "f" or ours.ndim != 1 or theirs.ndim != 1:
        return
    if ours.size != theirs.size and min(ours.size, theirs.size) > 1:
        short, long = sorted((ours, theirs), key=lambda one: one.size)
        if same(long[: short.size], short):
            rest = long[short.size :]
            what = "zeros at the end" if not rest.any() else "a longer piece"
            yield Named("length", f"{ours.size} in the reference, {theirs.size} in the candidate: {what}")
        else:
            detail = f"{ours.size} samples in the reference, {theirs.size} in the candidate"
            yield Named("resampling", detail, "resample to the same rate")
        return
    given = ran(lambda value: value, case.given)
    if given is None or ours.size != theirs.size:
        return
    if given.ndim == 1 and given.size != ours.size:
        for step in {max(1, given.size // ours.size)}:
            for side, one in (("candidate", theirs), ("reference", ours)):
                if same(given[::step][: one.size], one):
                    yield Named("resampling", f"the {side} takes every {step}th value, without a filter")
                    return
        places = np.linspace(0, given.size - 1, ours.size)
        for side, one in (("candidate", theirs), ("reference", ours)):
            for at in (places, np.arange(ours.size) * given.size / ours.size):
                if same(np.interp(at, np.arange(given.size), given), one):
                    yield Named("resampling", f"the {side} interpolates linearly between neighbours")
                    return
        yield Named("resampling", "the same length, by another filter")


def _kinds(case: StepCase) -> Iterator[Named]:
    """Rounded to a coarser type."""
    import numpy as np

    pair = single(case)
    if pair is None or pair[0].shape != pair[1].shape:
        return
    ours, theirs = pair
    for side, one, other in (("candidate", theirs, ours), ("reference", ours, theirs)):
        for kind in ("float16", "bfloat16", "uint8", "int8", "int64"):
            if _is_rounded(one, other, kind):
                yield Named("dtype", f"the {side} rounds to {kind}", f"keep {other.dtype}")
                return
        whole = one.astype(np.float64)
        if same(np.rint(whole), whole, 1e-12) and not same(np.rint(other), other, 1e-12) and _near(one, other):
            yield Named("dtype", f"the {side} rounds to whole numbers", f"keep {other.dtype}")
            return


def _near(one: Array, other: Array) -> bool:
    import numpy as np

    return bool(np.abs(one.astype(np.float64) - other).max(initial=0.0) <= 1.0)


def _is_rounded(one: Array, other: Array, kind: str) -> bool:
    import numpy as np

    if other.dtype.kind != "f" or str(other.dtype) == kind:
        return False
    if kind == "bfloat16":
        bits = other.astype(np.float32).view(np.uint32)
        kept = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)
        made: Any = kept.view(np.float32)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            made = other.astype(kind)
    return not same(made, other, 1e-7) and same(made.astype(np.float64), one, 1e-7)


SEQUENCE_FAMILIES: tuple[Family, ...] = (_texts, _tokens, _labels, _kinds, _signals)
