"""Feeds: arrays to try a model with, from its signature or from real texts.

Random normal inputs hide faults, so sizes and values vary: every symbolic dimension is tried at 1, at an odd
size and at one that is no multiple of usual strides, and values include zeros, ties, large and denormal ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.interface import Signature

if TYPE_CHECKING:
    import numpy as np

    from regraft.runtime.interface import Array
    from regraft.runtime.text import TextEncoder

SIZES = (1, 3, 17)
"""Of each symbolic dimension: one, odd, and no multiple of a stride or a vector register."""
FLOAT_VALUES = ("normal", "uniform", "zeros", "negative", "large", "denormal", "ties", "repeated")
INTEGER_VALUES = ("uniform", "lowest", "highest", "repeated", "padded")
_UNKNOWN_RANGE = (0, 9)
"""Of an integer input about which the model says nothing."""
_LARGE = 1e4
_MOST_TEXTS, _TEXTS_A_PASS = 64, 16
"""Of the user's own: how many are tried, so that decisions are counted on more than a handful, and at what cost."""
_MAX_TOKENS = 4096
_MAX_ELEMENTS = 1 << 28


class FeedCase(msgspec.Struct, frozen=True):
    """One pass worth of inputs, and how to make it again.

    Attributes:
        name: `normal batch=3 tokens=17`, or where the data came from.
        feeds: input name → array.
        values: kind of values, or `data` (from texts or files).
        sizes: symbolic dimension → size.
        seed: of the generator; None for data.
    """

    name: str
    feeds: dict[str, Array]
    values: str
    sizes: dict[str, int] = {}
    seed: int | None = None


def generated_feeds(
    signature: Signature,
    *,
    seed: int = 0,
    sizes: Mapping[str, Sequence[int]] | None = None,
    values: Sequence[str] | None = None,
    kinds_at: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
) -> Iterator[FeedCase]:
    """Cases from the signature: every size with ordinary values, then every kind of value at one ordinary size.

    Args:
        signature: shapes must be known, or given by `shapes`.
        seed: each case has a seed of its own, derived from this one and the case's name.
        sizes: symbolic dimension → sizes to try, in place of `SIZES`; a dimension without a name is
            `input.axis`, as `pixel_values.2`.
        values: kinds of values, of `FLOAT_VALUES` and `INTEGER_VALUES`; None for all.
        kinds_at: symbolic dimension → size at which they are tried, where that is not the ordinary one; ordinary values
            are not tried there as well.
        shapes: shape of an input about which the signature says nothing.
    Raises:
        Unsupported: the rank or dtype of an input is not known; the message says which.
    """
    ports = [_known(port, (shapes or {}).get(port.name), signature) for port in signature.inputs]
    symbols = _symbols(ports)
    tried = {symbol: tuple((sizes or {}).get(symbol, SIZES)) for symbol in symbols}
    ordinary = {symbol: choice[min(1, len(choice) - 1)] for symbol, choice in tried.items()}
    base = "normal" if any("float" in port.dtype for port in ports) else "uniform"
    settings = [ordinary] + [
        {**ordinary, symbol: size} for symbol, choice in tried.items() for size in choice if size != ordinary[symbol]
    ]
    if len(symbols) > 1:
        settings.append({symbol: choice[-1] for symbol, choice in tried.items()})
    wanted = values if values is not None else dict.fromkeys((*FLOAT_VALUES, *INTEGER_VALUES))
    kinds = [kind for kind in wanted if kind != base and _applies(kind, ports)]
    among = {**ordinary, **(kinds_at or {})}
    covered = among if kinds and among != ordinary else None
    yield from (_case(base, setting, ports, signature.ranges, seed) for setting in settings if setting != covered)
    yield from (_case(kind, among, ports, signature.ranges, seed) for kind in kinds)


def text_feeds(encoder: TextEncoder, texts: Sequence[str], *, batch_size: int = 4) -> Iterator[FeedCase]:
    """Cases from real strings: in a batch with padding, alone, at the greatest length that the model takes, then all.

    The first is of several rows: an exporter takes a size of 1 for one that never changes.

    Args:
        encoder: whose tokenizer and limit are used.
        texts: at least one; where they are more than `batch_size`, the first 64 follow in batches as they stand.
        batch_size: texts in the padded case.
    Raises:
        UsageError: no texts.
    """
    encodings = encoder.tokenize(texts)
    by_length = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
    step = max(1, len(by_length) // batch_size)
    mixed = [texts[i] for i in by_length[::step][: batch_size - 1]] + [texts[by_length[-1]]]
    yield _text_case("texts of several lengths, padded", encoder, mixed)
    yield _text_case("text alone", encoder, [texts[by_length[len(by_length) // 2]]])
    limit = min(encoder.max_tokens, _MAX_TOKENS)
    repeats = limit // max(1, len(encodings[by_length[-1]].ids) - 2) + 1
    yield _text_case("text of the greatest length", encoder, [" ".join([texts[by_length[-1]]] * repeats)], tokens=limit)
    for start in range(0, min(len(texts), _MOST_TEXTS) if len(texts) > batch_size else 0, _TEXTS_A_PASS):
        some = list(texts[start : min(start + _TEXTS_A_PASS, _MOST_TEXTS)])
        yield _text_case(f"texts {start + 1} to {start + len(some)}, padded", encoder, some)


def _text_case(name: str, encoder: TextEncoder, texts: list[str], *, tokens: int | None = None) -> FeedCase:
    encodings = encoder.tokenize(texts)
    tokens = tokens if tokens is not None and len(encodings[0].ids) == tokens else None
    feeds = encoder.feeds(encodings, tokens=tokens)
    rows, width = feeds["input_ids"].shape
    return FeedCase(name, feeds, "data", {"batch": rows, "tokens": width})


def _known(port: Port, shape: Sequence[int | str] | None, signature: Signature) -> Port:
    if shape is not None:
        return Port(port.name, port.dtype, tuple(shape))
    if port.shape is None:
        arrays = ", ".join(f"{one.name} ({one.dtype}{', one number' * (one.shape == ())})" for one in signature.inputs)
        raise Unsupported(
            f"the model does not say the shape of {port.name!r}",
            hint=f"feed data of your own: --feeds FILE.npz (in Python: feeds=…), with arrays named {arrays}",
        )
    return Port(
        port.name,
        port.dtype,
        tuple(f"{port.name}.{axis}" if extent is None else extent for axis, extent in enumerate(port.shape)),
    )


def _symbols(ports: Sequence[Port]) -> list[str]:
    return list(dict.fromkeys(extent for port in ports for extent in port.shape or () if isinstance(extent, str)))


def _applies(kind: str, ports: Sequence[Port]) -> bool:
    floats = any("float" in port.dtype for port in ports)
    integers = any("int" in port.dtype for port in ports)
    return (kind in FLOAT_VALUES and floats) or (kind in INTEGER_VALUES and integers)


def _case(
    kind: str, setting: dict[str, int], ports: Sequence[Port], ranges: Mapping[str, tuple[int, int]], seed: int
) -> FeedCase:
    import numpy as np

    name = " ".join([kind, *(f"{symbol}={size}" for symbol, size in setting.items())])
    own = zlib.crc32(f"{seed} {name}".encode())
    random = np.random.default_rng(own)
    feeds = {}
    for port in ports:
        shape = tuple(
            setting[extent] if isinstance(extent, str) else extent for extent in port.shape or () if extent is not None
        )
        if np.prod(shape, dtype=float) > _MAX_ELEMENTS:
            raise Unsupported(f"input {port.name!r} of shape {shape} is too large to make up")
        feeds[port.name] = _values(kind, port, shape, ranges.get(port.name), random)
    return FeedCase(name, feeds, kind, setting, own)


def _values(
    kind: str, port: Port, shape: tuple[int, ...], limits: tuple[int, int] | None, random: np.random.Generator
) -> Array:
    import numpy as np

    if "float" in port.dtype:
        dtype = "float32" if port.dtype == "bfloat16" else port.dtype
        return _floats(kind if kind in FLOAT_VALUES else "normal", shape, dtype, random)
    if port.dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if "int" in port.dtype:
        masks = "mask" in port.name.lower() and (limits or (0, 1)) == (0, 1)
        kind = kind if kind in INTEGER_VALUES else "uniform"
        return (_mask(kind, shape) if masks else _integers(kind, shape, limits, random)).astype(port.dtype)
    if port.dtype == "string":
        from regraft.runtime.hard_texts import PLAIN  # which makes cases of its own

        return np.resize(np.array(PLAIN), shape)
    raise Unsupported(f"no values are made up for {port.dtype}, as input {port.name!r} wants")


def _floats(kind: str, shape: tuple[int, ...], dtype: str, random: np.random.Generator) -> Array:
    import numpy as np

    tiny = np.finfo(dtype).smallest_subnormal
    normal = random.standard_normal(shape)
    makers: dict[str, Callable[[], Any]] = {
        "normal": lambda: normal,
        "uniform": lambda: random.random(shape),
        "zeros": lambda: np.zeros(shape),
        "negative": lambda: -np.abs(normal),
        "large": lambda: normal * min(_LARGE, float(np.finfo(dtype).max) / 100),
        "denormal": lambda: np.sign(normal) * float(tiny) * random.integers(1, 100, shape),
        "ties": lambda: np.round(normal),
        "repeated": lambda: np.full(shape, normal.ravel()[0] if normal.size else 0.0),
    }
    return np.asarray(makers[kind]()).astype(dtype)


def _integers(kind: str, shape: tuple[int, ...], limits: tuple[int, int] | None, random: np.random.Generator) -> Array:
    import numpy as np

    low, high = limits or _UNKNOWN_RANGE
    if kind in ("lowest", "highest"):
        return np.full(shape, low if kind == "lowest" else high)
    if kind == "repeated":
        return np.full(shape, random.integers(low, high, endpoint=True))
    return np.asarray(random.integers(low, high, shape, endpoint=True))


def _mask(kind: str, shape: tuple[int, ...]) -> Array:
    """Ones; for `padded`, each row of a batch is a little shorter than the one before, and none is empty."""
    import numpy as np

    mask = np.ones(shape, dtype=np.int64)
    if kind == "padded" and len(shape) == 2:
        lengths = np.maximum(1, shape[1] - np.arange(shape[0]))
        mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
    return mask
