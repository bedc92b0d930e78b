"""Which uses of weights in two networks are in the same place: colours that are refined until nothing changes.

Source: Weisfeiler and Leman, 1968: two nodes keep one colour as long as their neighbours have the same colours. Colours
of both networks are taken from one table, so that they can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from regraft.compare.weight_map.units import Unit

_MAX_ROUNDS = 32


def coloured(
    ours: Sequence[Unit], theirs: Sequence[Unit], *, looks_ahead: bool = True
) -> tuple[dict[int, int], dict[int, int]]:
    """Unit → colour, for both networks.

    Args:
        ours, theirs: units with indices of their own.
        looks_ahead: by what follows, too; False for networks of which one ends earlier or goes on otherwise.
    """
    table: dict[object, int] = {}
    known = [_first(units, table) for units in (ours, theirs)]
    count = len(set(known[0].values()) | set(known[1].values()))
    for _ in range(_MAX_ROUNDS):
        table = {}
        known = [
            _refined(units, own, table, looks_ahead=looks_ahead)
            for units, own in zip((ours, theirs), known, strict=True)
        ]
        refined = len(set(known[0].values()) | set(known[1].values()))
        if refined == count:
            break
        count = refined
    return known[0], known[1]


def is_same(ours: dict[int, int], theirs: dict[int, int]) -> bool:
    """Have both networks as many units of each colour?"""
    return Counter(ours.values()) == Counter(theirs.values())


def _first(units: Sequence[Unit], table: dict[object, int]) -> dict[int, int]:
    return {unit.index: table.setdefault(unit.signature, len(table)) for unit in units}


def _refined(
    units: Sequence[Unit], known: dict[int, int], table: dict[object, int], *, looks_ahead: bool
) -> dict[int, int]:
    takers: dict[int, list[int]] = {}
    for unit in units if looks_ahead else ():
        if not unit.is_heavy:
            for anchor in unit.anchors:
                takers.setdefault(anchor, []).append(known[unit.index])
    return {
        unit.index: table.setdefault(
            (
                known[unit.index],
                tuple(sorted(known[i] for i in unit.anchors)),
                tuple(sorted(known[i] for i in unit.lights)),
                tuple(sorted(known[i] for i in unit.followers)) if looks_ahead else (),
                tuple(sorted(takers.get(unit.index, ()))),
            ),
            len(table),
        )
        for unit in units
    }
