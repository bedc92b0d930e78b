"""Ways in which the weights of matched units can be one another: in which order, joined, split, interleaved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import msgspec

from regraft.compare.weight_map.interface import IN, OUT
from regraft.compare.weight_map.pieces import Pair, Piece, Source
from regraft.compare.weight_map.sites import Site
from regraft.compare.weight_map.units import Cell, Network, Unit

_MAX_PERMUTED = 4
_HEAD_SIZES = range(4, 257)


class Choice(msgspec.Struct):
    """Pairs that hold together, and the ways in which they can.

    Attributes:
        name: of the candidate's weights, for messages.
        sites: indices of the candidate's sites that are concerned.
        ways: each a list of pairs; the likeliest first.
        taken: which of them is taken.
        kind: ways of choices of one kind are alike, so that what held for one is tried first for the next.
    """

    name: str
    sites: tuple[int, ...]
    ways: list[list[Pair]]
    taken: int = 0
    kind: tuple[object, ...] = ()

    @property
    def pairs(self) -> list[Pair]:
        """As it is taken now."""
        return self.ways[self.taken]


class _Member(msgspec.Struct, frozen=True):
    """One projection of a unit: the weight, then what is added to it."""

    site: Site
    biases: tuple[Site, ...]

    @property
    def width(self) -> int:
        return self.site.piece.size(OUT)


def of_units(ours: Sequence[Unit], theirs: Sequence[Unit], networks: tuple[Network, Network]) -> Choice:
    """How heavy units with one signature, as many on both sides, can be paired.

    Args:
        ours, theirs: of the reference, of the candidate; several where nothing tells them apart.
        networks: that they are of.
    """
    mine = [_members(unit, networks[0]) for unit in ours]
    other = [_members(unit, networks[1]) for unit in theirs]
    ways: list[list[Pair]] = []
    for order in _orders(len(mine)):
        per_unit = [list(_of_members(mine[i], members)) for i, members in zip(order, other, strict=True)]
        ways += [[pair for way in chosen for pair in way] for chosen in _combined(per_unit)]
    sites = tuple(site.index for unit in theirs for site in unit.sites)
    first = theirs[0].sites[0]
    kind = (len(mine), len(mine[0]), len(other[0]), first.role, len(ways))
    return Choice(" + ".join(unit.name for unit in theirs), sites, ways, kind=kind)


def of_cells(ours: Cell, theirs: Cell, networks: tuple[Network, Network]) -> Choice:
    """A recurrent layer: the order of its gates, and its biases, which may be two that are added or one."""
    gates = theirs.state.width // max(1, theirs.state.sites[0].piece.size(IN))
    first = list(_of_members(_members(ours.inputs, None), _members(theirs.inputs, None)))
    second = list(_of_members(_members(ours.state, None), _members(theirs.state, None)))
    ways = []
    for inputs, state in zip(first, second, strict=False):
        for order in itertools.permutations(range(gates)) if 1 < gates <= _MAX_PERMUTED else [(0,)]:
            blocks = order if order != tuple(range(gates)) else ()
            pairs = [*inputs, *state, *_cell_biases(ours, theirs)]
            ways.append([msgspec.structs.replace(pair, blocks=blocks) for pair in pairs])
    heavy = (*theirs.inputs.sites, *theirs.state.sites)
    sites = tuple(site.index for site in (*heavy, *theirs.biases))
    return Choice(theirs.state.name, sites, ways, kind=("cell", gates, len(ways)))


def of_lights(ours: Site, theirs: Site) -> Choice:
    """A norm, a scale, a table: one and the same, or with its places in another order."""
    return Choice(theirs.piece.weight, (theirs.index,), [[one] for one in _of_lights(ours.piece, theirs.piece)])


def with_flattened(choice: Choice, extents: Sequence[tuple[int, ...]]) -> Choice:
    """The same for a projection of a flattened image, whose places and channels may lie in another order.

    Args:
        choice: with one way.
        extents: channels and places as the reference may have flattened them.
    """
    turned = [(one, order) for one in extents for order in itertools.permutations(range(len(one)))]
    ways = [*choice.ways, *(_turned(choice.ways[0], *one) for one in turned if list(one[1]) != sorted(one[1]))]
    return msgspec.structs.replace(choice, ways=ways, kind=("flattened", len(ways)))


def _turned(way: list[Pair], extents: tuple[int, ...], order: tuple[int, ...]) -> list[Pair]:
    """The weight itself is turned, what is added to it is not."""
    return [
        msgspec.structs.replace(pair, inputs=(extents, order)) if pair.candidate.size(IN) > 1 else pair for pair in way
    ]


def _members(unit: Unit, network: Network | None) -> list[_Member]:
    return [_Member(site, tuple(network.biases_of(site)) if network is not None else ()) for site in unit.sites]


def _orders(count: int) -> list[tuple[int, ...]]:
    if count <= _MAX_PERMUTED:
        return list(itertools.permutations(range(count)))
    plain = tuple(range(count))
    swapped = []
    for i in range(count - 1):
        order = list(plain)
        order[i], order[i + 1] = order[i + 1], order[i]
        swapped.append(tuple(order))
    return [plain, *swapped]


def _combined(per_unit: list[list[list[Pair]]]) -> Iterator[tuple[list[Pair], ...]]:
    """One way for each unit; units of one kind go the same way."""
    if len({len(ways) for ways in per_unit}) == 1:
        yield from zip(*per_unit, strict=True)
    else:
        yield tuple(ways[0] for ways in per_unit)


def _of_members(ours: list[_Member], theirs: list[_Member]) -> Iterator[list[Pair]]:
    """Every way in which projections of one tensor can be those of another implementation."""
    widths = [member.width for member in theirs]
    for order in _orders(len(ours)):
        mine = [ours[i] for i in order]
        if len(mine) == len(theirs) and [member.width for member in mine] != widths:
            continue
        yield [pair for pairs in _in_a_row(mine, theirs) for pair in pairs]
    if len(ours) == 1 < len(theirs):
        for order in [order for order in _orders(len(theirs)) if list(order) != sorted(order)]:
            starts = _starts([theirs[i] for i in order])
            placed = dict(zip(order, starts, strict=True))
            yield [
                pair
                for i, member in enumerate(theirs)
                for pair in _from_rows(ours[0], member, (placed[i], placed[i] + member.width))
            ]
    if len({*widths, *(member.width for member in ours)}) <= 2 and 1 in (len(ours), len(theirs)):
        yield from _interleaved(ours, theirs)


def _in_a_row(ours: list[_Member], theirs: list[_Member]) -> Iterator[list[Pair]]:
    """Both sides joined, and cut where the candidate cuts."""
    starts = _starts(ours)
    for member, start in zip(theirs, _starts(theirs), strict=True):
        stop = start + member.width
        taken = [
            (mine, (max(start, at) - at, min(stop, at + mine.width) - at))
            for mine, at in zip(ours, starts, strict=True)
            if at < stop and at + mine.width > start
        ]
        yield _joined(taken, member)


def _starts(members: Sequence[_Member]) -> list[int]:
    return [0, *itertools.accumulate(member.width for member in members)][: len(members)]


def _joined(taken: list[tuple[_Member, tuple[int, int]]], member: _Member) -> list[Pair]:
    def sources(pieces: list[Piece]) -> tuple[Source, ...]:
        return tuple(
            Source(piece, None if rows == (0, mine.width) else rows)
            for piece, (mine, rows) in zip(pieces, taken, strict=True)
        )

    is_flipped = taken[0][0].site.is_flipped != member.site.is_flipped
    pairs = [Pair(member.site.piece, sources([mine.site.piece for mine, _ in taken]), is_flipped=is_flipped)]
    for i, bias in enumerate(member.biases):
        if all(len(mine.biases) > i for mine, _ in taken):
            pairs.append(Pair(bias.piece, sources([mine.biases[i].piece for mine, _ in taken])))
    return pairs


def _from_rows(mine: _Member, member: _Member, rows: tuple[int, int]) -> list[Pair]:
    return _joined([(mine, rows)], member)


def _interleaved(ours: list[_Member], theirs: list[_Member]) -> Iterator[list[Pair]]:
    """One side fused so that the parts of each head lie together: (heads, parts, rest)."""
    parts = max(len(ours), len(theirs))
    if parts == 1:
        return
    each = min(member.width for member in (*ours, *theirs))
    for heads in _heads(each, [member.site.piece for member in (*ours, *theirs)]):
        for order in _orders(parts):
            if len(ours) == 1:
                yield [
                    pair
                    for i, member in enumerate(theirs)
                    for pair in _of_head(ours[0], member, heads, parts, order[i])
                ]
            else:
                mine = [(ours[i], (0, ours[i].width)) for i in order]
                yield [msgspec.structs.replace(pair, heads=heads) for pair in _joined(mine, theirs[0])]


def _of_head(mine: _Member, member: _Member, heads: int, parts: int, part: int) -> list[Pair]:
    def source(piece: Piece) -> tuple[Source, ...]:
        return (Source(piece, (part, part + 1), heads, parts),)

    biases = zip(mine.biases, member.biases, strict=False)
    return [
        Pair(member.site.piece, source(mine.site.piece)),
        *(Pair(bias.piece, source(own.piece)) for own, bias in biases),
    ]


def _heads(width: int, pieces: Sequence[Piece]) -> list[int]:
    """Numbers of heads that are possible; those that a weight has an axis for come first."""
    told = [
        piece.shape[axis]
        for piece in pieces
        for axis in range(len(piece.axes) - 1)
        if piece.axes[axis : axis + 2] == "OO"
    ]
    fitting = [count for count in range(2, width + 1) if width % count == 0 and width // count in _HEAD_SIZES]
    common = sorted(fitting, key=lambda count: abs(math.log2(width / count / 64)))
    return list(dict.fromkeys([*[one for one in told if width % one == 0], *common]))[:6]


def _cell_biases(ours: Cell, theirs: Cell) -> list[Pair]:
    """Two biases, of the input and of the state, or their sum."""
    width = theirs.state.width
    mine = [source for site in ours.biases for source in _halves(site, width)]
    others = [site for site in theirs.biases if site.piece.size(OUT) == width]
    if len(mine) == len(others):
        return [
            Pair(site.piece, (source,))
            for site, source in zip(others, _sorted(mine, ours, others, theirs), strict=True)
        ]
    if len(others) == 1 and mine:
        return [Pair(others[0].piece, tuple(mine), is_sum=True)]
    if len(mine) == 1 and others:
        zeros = [Pair(site.piece, (), why="the reference has one bias, the candidate two") for site in others[1:]]
        return [Pair(others[0].piece, (mine[0],)), *zeros]
    return [Pair(site.piece, (), why="the reference has no bias") for site in others]


def _sorted(mine: list[Source], ours: Cell, others: list[Site], theirs: Cell) -> list[Source]:
    """The bias of the input first on both sides, where it is known which that is."""
    inputs = {site.index for site in ours.inputs.sites}
    first = [site.follows in inputs for site in ours.biases]
    wanted = [site.follows in {one.index for one in theirs.inputs.sites} for site in others]
    if len(first) == len(wanted) == 2 and first[0] != first[1] and wanted[0] != wanted[1] and first != wanted:
        return mine[::-1]
    return mine


def _halves(site: Site, width: int) -> list[Source]:
    if site.piece.size(OUT) == 2 * width:
        return [Source(site.piece, (0, width)), Source(site.piece, (width, 2 * width))]
    return [Source(site.piece)]


def _of_lights(ours: Piece, theirs: Piece) -> list[Pair]:
    """As it lies, and with axes in other orders where the extents say so."""
    mine, other = ([extent for extent in piece.extents if extent != 1] for piece in (ours, theirs))
    plain = Pair(_flat(theirs), (Source(_flat(ours)),))
    if mine == other or len(mine) < 2 or sorted(mine) != sorted(other):
        return [plain]
    turned = [
        msgspec.structs.replace(plain, inputs=(tuple(mine), order))
        for order in itertools.permutations(range(len(mine)))
        if [mine[axis] for axis in order] == other
    ]
    return [*turned, plain]


def _flat(piece: Piece) -> Piece:
    """All axes are entries, in the order in which they lie."""
    return msgspec.structs.replace(piece, axes="".join("." if extent == 1 else IN for extent in piece.extents))
