"""A weight map as a text that people edit (TOML), and as a script that converts weights by itself."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from regraft.compare.weight_map.checking import check_pairs
from regraft.compare.weight_map.mapping import GIVEN, WeightMap
from regraft.compare.weight_map.pieces import Norm, Pair, Piece, Source
from regraft.errors import Damaged, UsageError

SCHEMA = "regraft.weight-map/1"
_HEAD = """\
# Which weight of the candidate is which of the reference. Edit it, and give it back: regraft replicate … --map FILE
# axes: O makes channels, I is summed over (or holds entries), S is a place of a kernel, . has extent 1.
"""


class _Source(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    weight: str
    axes: str
    part: tuple[int, int, int] | None = None
    rows: tuple[int, int] | None = None
    heads: int = 0
    parts: int = 1


class _Pair(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    weight: str
    axes: str
    reference: list[_Source]
    status: str = GIVEN
    why: str = ""
    part: tuple[int, int, int] | None = None
    is_sum: bool = False
    heads: int = 0
    blocks: tuple[int, ...] = ()
    inputs: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    is_flipped: bool = False
    norm: Norm | None = None
    fill: float | None = None
    is_free: bool = False


class _Document(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    schema: str
    pair: list[_Pair]


def toml_from_map(weight_map: WeightMap) -> str:
    """The map as TOML, one table a weight of the candidate, in its order of use."""
    return "\n".join([_HEAD, f"schema = {json.dumps(SCHEMA)}", *_lines(weight_map)]) + "\n"


def map_from_toml(
    path: Path, *, shapes: Mapping[str, tuple[int, ...]], reference_shapes: Mapping[str, tuple[int, ...]]
) -> WeightMap:
    """Read a map that was written, and perhaps edited.

    Args:
        path: the file.
        shapes: weight of the candidate → extents.
        reference_shapes: weight of the reference → extents.
    Raises:
        UsageError: it cannot be read, names a weight that is not there, or describes it wrongly.
        Damaged: it is no map.
    """
    try:
        document = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _Document)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the map cannot be read: {error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:  # of TOML, of the schema, and of what is nested too deep
        raise Damaged(f"it is no weight map: {error}", where=str(path)) from error
    if document.schema != SCHEMA:
        raise Damaged(f"its schema is {document.schema!r}, not {SCHEMA!r}", where=str(path))
    pairs = tuple(_read(one, shapes, reference_shapes, str(path)) for one in document.pair)
    check_pairs(pairs, str(path))
    done = {pair.candidate.weight for pair in pairs}
    used = {name for pair in pairs for name in pair.needed}
    return WeightMap(
        pairs,
        dict(shapes),
        dict(reference_shapes),
        tuple(name for name in shapes if name not in done),
        tuple(name for name in reference_shapes if name not in used),
    )


def script_from_map(weight_map: WeightMap) -> str:
    """A Python script that converts weights without Regraft: numpy, safetensors, torch for files of torch."""
    plain = [
        {**_defaults(pair), "shape": weight_map.shapes[pair.candidate.weight]} for pair in weight_map.pairs
    ]  # every field is told, so that the script needs no defaults
    text = json.dumps({"pairs": plain}, separators=(",", ":"))
    template = files(__package__).joinpath("standalone.py").read_text("utf-8")
    before, _, after = template.partition('MAP = "{}"\n')
    return f"{before}MAP = {text!r}\n{after}"


def _lines(weight_map: WeightMap) -> Iterator[str]:
    for pair in weight_map.pairs:
        fields = msgspec.to_builtins(_plain(pair))
        yield ""
        yield "[[pair]]"
        for key, value in fields.items():
            if key != "reference":
                yield f"{key} = {_value(value)}"
        yield f"reference = [{', '.join(map(_value, fields['reference']))}]"
        shape = weight_map.shapes[pair.candidate.weight]
        ours = [weight_map.reference_shapes[source.piece.weight] for source in pair.sources]
        told = "" if pair.norm is None else ", with the norm behind it"
        yield f"# {' + '.join(map(str, ours)) or pair.fill} → {shape}{told}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _plain(pair: Pair) -> _Pair:
    sources = [
        _Source(one.piece.weight, one.piece.axes, one.piece.part, one.rows, one.heads, one.parts)
        for one in pair.sources
    ]
    return _Pair(
        pair.candidate.weight, pair.candidate.axes, sources, pair.status, pair.why, pair.candidate.part, pair.is_sum,
        pair.heads, pair.blocks, pair.inputs, pair.is_flipped, pair.norm,
        None if pair.sources or pair.norm is not None else pair.fill, pair.is_free,
    )  # fmt: skip


def _defaults(pair: Pair) -> dict[str, Any]:
    """All fields, those that have their default too."""
    plain = _plain(pair)
    found = {name: getattr(plain, name) for name in _Pair.__struct_fields__}
    found["norm"] = msgspec.to_builtins(plain.norm)
    found["reference"] = [{name: getattr(one, name) for name in _Source.__struct_fields__} for one in plain.reference]
    return found


def _read(
    one: _Pair, shapes: Mapping[str, tuple[int, ...]], reference_shapes: Mapping[str, tuple[int, ...]], where: str
) -> Pair:
    candidate = _piece(one.weight, one.axes, one.part, shapes, where, "candidate")
    sources = tuple(
        Source(
            _piece(own.weight, own.axes, own.part, reference_shapes, where, "reference"), own.rows, own.heads, own.parts
        )
        for own in one.reference
    )
    for name in one.norm.weights if one.norm is not None else ():
        _check_known(name, reference_shapes, where, "reference")
    return Pair(
        candidate,
        sources,
        one.is_sum,
        one.heads,
        one.blocks,
        one.inputs,
        one.is_flipped,
        GIVEN,
        one.why,
        one.norm,
        one.fill or 0.0,
        one.is_free,
    )


def _check_known(weight: str, shapes: Mapping[str, tuple[int, ...]], where: str, role: str) -> None:
    if weight not in shapes:
        close = difflib.get_close_matches(weight, list(shapes), n=1, cutoff=0.3)
        hint = f"did you mean {close[0]}?" if close else ""
        raise UsageError(f"the {role} has no weight {weight!r}", where=where, hint=hint)


def _piece(
    weight: str,
    axes: str,
    part: tuple[int, int, int] | None,
    shapes: Mapping[str, tuple[int, ...]],
    where: str,
    role: str,
) -> Piece:
    _check_known(weight, shapes, where, role)
    if len(axes) != len(shapes[weight]):
        raise UsageError(
            f"{weight} has {len(shapes[weight])} axes, {axes!r} names {len(axes)}", where=where, hint='axes = "OI"'
        )
    return Piece(weight, shapes[weight], axes, part)
