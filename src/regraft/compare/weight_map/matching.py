"""From the uses of weights in two networks to choices: which can be which, the likeliest first."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence

import msgspec

from regraft.compare.weight_map.arrangement import Choice, of_cells, of_lights, of_units, with_flattened
from regraft.compare.weight_map.colours import coloured, is_same
from regraft.compare.weight_map.folding import folded
from regraft.compare.weight_map.interface import IN, NONE, OUT
from regraft.compare.weight_map.sites import Site
from regraft.compare.weight_map.units import Cell, Network, Unit, network_of

_MAX_CLASS = 6


class Matching(msgspec.Struct):
    """What structure says.

    Attributes:
        choices: in the candidate's order of execution.
        extra_reference, extra_candidate: units that the other network has nothing for.
        is_exact: both networks have the same uses of weights in the same places.
        resized: pairs of units that are in the same place, and of other widths.
    """

    choices: list[Choice]
    extra_reference: list[Unit]
    extra_candidate: list[Unit]
    is_exact: bool
    resized: list[tuple[Unit, Unit]] = []


def matched(ours: Sequence[Site], theirs: Sequence[Site]) -> Matching:
    """Match the uses of weights in two networks.

    Args:
        ours, theirs: sites of the reference and of the candidate, in order.
    """
    exact = _exact(ours, theirs)
    if exact is not None:
        return exact
    through_folding = _folded(ours, theirs)
    return through_folding or _in_order(_networks(ours, theirs, is_grouped=True))


def _folded(ours: Sequence[Site], theirs: Sequence[Site]) -> Matching | None:
    """The matching of networks of which one has the norms of the other as parts of its projections."""
    norms = [sum(site.behind is not None for site in sites) for sites in (ours, theirs)]
    if norms[0] == norms[1]:
        return None
    is_candidate = norms[1] > norms[0]
    for has_places in (False, True):
        without = folded(theirs if is_candidate else ours, has_places=has_places)
        if not without.norms or (is_candidate and not without.has_identities):
            continue
        exact = _exact(ours, without.sites) if is_candidate else _exact(without.sites, theirs)
        if exact is not None:
            change = without.choice_of_identities if is_candidate else without.choice
            return msgspec.structs.replace(exact, choices=[change(one) for one in exact.choices])
    return None


def _networks(ours: Sequence[Site], theirs: Sequence[Site], *, is_grouped: bool) -> tuple[Network, Network]:
    return network_of(ours, is_grouped=is_grouped), network_of(theirs, is_grouped=is_grouped)


def _exact(ours: Sequence[Site], theirs: Sequence[Site]) -> Matching | None:
    """The matching of networks that use weights in the same places; None for others."""
    for is_grouped in (False, True):
        networks = _networks(ours, theirs, is_grouped=is_grouped)
        colours = coloured(networks[0].units, networks[1].units)
        if is_same(*colours):
            return _by_colour(networks, colours)
    return None


def _by_colour(networks: tuple[Network, Network], colours: tuple[dict[int, int], dict[int, int]]) -> Matching:
    classes: dict[int, tuple[list[Unit], list[Unit]]] = {}
    for side, (network, own) in enumerate(zip(networks, colours, strict=True)):
        for unit in network.units:
            classes.setdefault(own[unit.index], ([], []))[side].append(unit)
    pairs = [(mine, other) for mine, other in classes.values() if other[0].is_heavy or not _is_bias(other[0])]
    return Matching(list(_choices(networks, pairs)), [], [], is_exact=True)


def _in_order(networks: tuple[Network, Network]) -> Matching:
    """Networks that differ: what comes from the same, then the longest common row of the rest and what hangs on it."""
    pairs = list(_from_the_same(networks))
    partner = {two.index: one.index for mine, other in pairs for one, two in zip(mine, other, strict=True)}
    done = ({unit.index for mine, _ in pairs for unit in mine}, set(partner))
    mine, other = (
        [unit for unit in network.units if unit.is_heavy and unit.index not in known]
        for network, known in zip(networks, done, strict=True)
    )
    matcher = difflib.SequenceMatcher(
        None, [unit.signature for unit in mine], [unit.signature for unit in other], autojunk=False
    )
    for block in matcher.get_matching_blocks():
        for i in range(block.size):
            partner[other[block.b + i].index] = mine[block.a + i].index
            pairs.append(([mine[block.a + i]], [other[block.b + i]]))
    pairs += [([one], [two]) for one, two in _lights(networks, partner, done)]
    for side in (0, 1):
        pairs = _taken_alike(networks[side], pairs, side)
    seen = ({unit.index for one, _ in pairs for unit in one}, {unit.index for _, two in pairs for unit in two})
    extra = [
        [unit for unit in network.units if unit.index not in known and not _is_bias(unit)]
        for network, known in zip(networks, seen, strict=True)
    ]
    heavy = [[unit for unit in network.units if unit.is_heavy] for network in networks]
    return Matching(list(_choices(networks, pairs)), extra[0], extra[1], False, list(_resized(*heavy)))


def _from_the_same(networks: tuple[Network, Network]) -> Iterator[tuple[list[Unit], list[Unit]]]:
    """Units with the same uses in front of them, as many on both sides, whatever follows."""
    colours = coloured(networks[0].units, networks[1].units, looks_ahead=False)
    classes: dict[int, tuple[list[Unit], list[Unit]]] = {}
    for side, (network, own) in enumerate(zip(networks, colours, strict=True)):
        for unit in network.units:
            if not _is_bias(unit):
                classes.setdefault(own[unit.index], ([], []))[side].append(unit)
    yield from ((mine, other) for mine, other in classes.values() if len(mine) == len(other))


def _is_bias(unit: Unit) -> bool:
    return unit.role == "bias" and unit.sites[0].follows is not None


def _lights(
    networks: tuple[Network, Network], partner: dict[int, int], done: tuple[set[int], set[int]]
) -> Iterator[tuple[Unit, Unit]]:
    """Light units whose last anchor corresponds, in order; those that are matched already are left out."""
    waiting: dict[tuple[object, ...], list[Unit]] = {}
    for unit in networks[0].units:
        if not unit.is_heavy and not _is_bias(unit) and unit.index not in done[0]:
            waiting.setdefault((unit.signature, max(unit.anchors, default=-1)), []).append(unit)
    for unit in networks[1].units:
        if not unit.is_heavy and not _is_bias(unit) and unit.index not in done[1]:
            last = max(unit.anchors, default=-1)
            found = waiting.get((unit.signature, partner.get(last, -1 if last < 0 else -2)))
            if found:
                yield found.pop(0), unit


def _taken_alike(
    network: Network, pairs: Sequence[tuple[list[Unit], list[Unit]]], side: int
) -> list[tuple[list[Unit], list[Unit]]]:
    """The pairs, with light units that something else takes exchanged for left-over ones that the same takes.

    Behind as many layers, the first norm of a layer too many looks like the last norm, but for what takes it.
    """
    both = [(pair[side], pair[1 - side]) for pair in pairs]
    partner = {one.index: two.index for own, other in both for one, two in zip(own, other, strict=True)}
    free = [unit for unit in network.units if unit.index not in partner and not unit.is_heavy and not _is_bias(unit)]
    result = []
    for own, other in both:
        first, wanted, chosen = own[0], other[0].followers, own
        takers = {unit.index: {partner.get(i) for i in unit.followers} for unit in (first, *free)}
        if len(own) == 1 and not first.is_heavy and wanted and takers[first.index].isdisjoint(wanted):
            fitting = [one for one in free if one.signature == first.signature and takers[one.index] == wanted]
            if fitting:
                free.remove(fitting[0])
                chosen = [fitting[0]]
        result.append((chosen, other) if side == 0 else (other, chosen))
    return result


def _resized(mine: list[Unit], other: list[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """Units of two networks of one depth, whose widths differ."""
    if [unit.role for unit in mine] == [unit.role for unit in other]:
        for one, two in zip(mine, other, strict=True):
            if one.signature != two.signature:
                yield one, two


def _choices(networks: tuple[Network, Network], pairs: Sequence[tuple[list[Unit], list[Unit]]]) -> Iterator[Choice]:
    """Choices in the candidate's order; the units of a recurrent layer are one."""
    cells = ({cell.state.index: cell for cell in networks[0].cells}, {c.state.index: c for c in networks[1].cells})
    parts = [{unit.index for cell in network.cells for unit in (cell.inputs, cell.state)} for network in networks]
    found: list[Choice] = []
    for mine, other in pairs:
        if other[0].role == "recur" and other[0].index in cells[1] and mine[0].index in cells[0]:
            both = zip(mine, other, strict=True)
            found += [of_cells(cells[0][one.index], cells[1][two.index], networks) for one, two in both]
        elif other[0].index in parts[1] and mine[0].index in parts[0]:
            continue
        elif other[0].is_heavy and other[0].role != "table":
            found += [_flattened(one, networks) for one in _heavy(mine, other, networks)]
        else:
            found += [of_lights(one.sites[0], two.sites[0]) for one, two in zip(mine, other, strict=True)]
    yield from sorted(found, key=lambda choice: min(choice.sites))


def _heavy(mine: list[Unit], other: list[Unit], networks: tuple[Network, Network]) -> Iterator[Choice]:
    """Those that nothing tells apart are one choice, but for weights that are one and the same on either side."""
    weights = [tuple(site.piece for unit in units for site in unit.sites) for units in (mine, other)]
    is_shared = any(len(set(pieces)) < len(pieces) for pieces in weights)
    if len(other) <= _MAX_CLASS and not is_shared:
        yield of_units(mine, other, networks)
    else:
        for one, two in zip(mine, other, strict=True):
            yield of_units([one], [two], networks)


def _flattened(choice: Choice, networks: tuple[Network, Network]) -> Choice:
    """With the orders in which a flattened image can lie, where it is one that is projected."""
    if len(choice.ways) != 1 or len(choice.sites) != 1:
        return choice
    site = next(one for one in networks[1].sites if one.index == choice.sites[0])
    anchors = [one for one in networks[1].sites if site.anchors >> one.index & 1 and _places(one)]
    channels = {one.piece.size(OUT) for one in anchors}
    if site.piece.space or len(channels) != 1:
        return choice
    (count,) = channels
    places, rest = divmod(site.piece.size(IN), count)
    if rest or places < 2:
        return choice
    extents: list[tuple[int, ...]] = [(count, places), (places, count)]
    side = math.isqrt(places)
    shapes = [(side, side)] if side * side == places else []
    shapes += [(h, places // h) for h in range(2, places) if places % h == 0 and h != side][:4]
    for height, width in shapes if _places(anchors[0]) > 1 else []:
        extents += [(count, height, width), (height, width, count)]
    return with_flattened(choice, extents)


def _places(site: Site) -> int:
    """Axes of the image that a convolution makes, of one place, too; 0 for what is none."""
    piece = site.piece
    if len(piece.axes) > len(OUT + IN) and NONE in piece.axes:
        return len(piece.axes) - len(OUT + IN)
    return len(piece.space)


__all__ = ["Cell", "Matching", "matched"]
