"""Uses of weights that another implementation may have as one or as several: parallel projections, recurrent cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from regraft.compare.weight_map.interface import IN, OUT
from regraft.compare.weight_map.sites import Site, bits


class Unit(msgspec.Struct):
    """Sites that are matched together.

    Attributes:
        index: in the order of the first of its sites.
        sites: one, or the parallel projections of one tensor that the same uses take.
        anchors, lights: units that the data comes from and went through.
        followers: heavy units that take what it makes.
    """

    index: int
    sites: tuple[Site, ...]
    anchors: frozenset[int] = frozenset()
    lights: frozenset[int] = frozenset()
    followers: frozenset[int] = frozenset()

    @property
    def role(self) -> str:
        """Of its sites, which have the same."""
        return self.sites[0].role

    @property
    def is_heavy(self) -> bool:
        """Does it make new channels?"""
        return self.sites[0].is_heavy

    @property
    def width(self) -> int:
        """Channels that it makes, all together."""
        return sum(site.piece.size(OUT) for site in self.sites)

    @property
    def signature(self) -> tuple[object, ...]:
        """What another implementation must have in common with it."""
        first = self.sites[0]
        if self.is_heavy:
            return (first.role, self.width, first.piece.size(IN), first.piece.space)
        return (first.role, sum(int(str(site.signature[1])) for site in self.sites))

    @property
    def name(self) -> str:
        """The weight, for messages."""
        return " + ".join(dict.fromkeys(site.piece.weight for site in self.sites))


class Cell(msgspec.Struct, frozen=True):
    """One layer and direction of a recurrent network.

    Attributes:
        inputs, state: heavy units, of as many channels.
        biases: sites of what is added to either.
    """

    inputs: Unit
    state: Unit
    biases: tuple[Site, ...]


class Network(msgspec.Struct):
    """The units of a network.

    Attributes:
        sites: all of them.
        units: without the biases of recurrent layers, which two implementations add up differently.
        cells: recurrent layers.
    """

    sites: Sequence[Site]
    units: list[Unit]
    cells: list[Cell]

    def biases_of(self, site: Site) -> list[Site]:
        """What is added to what a heavy site makes."""
        return [one for one in self.sites if one.follows == site.index and one.role == "bias"]


def network_of(sites: Sequence[Site], *, is_grouped: bool) -> Network:
    """Units of the sites, with who feeds whom.

    Args:
        sites: in order.
        is_grouped: parallel projections of one tensor, which the same uses take, are one unit.
    """
    followers = _followers(sites)
    groups: dict[tuple[object, ...], list[Site]] = {}
    keys: dict[int, tuple[object, ...]] = {}
    for site in sites:
        keys[site.index] = _key(site, followers, keys, is_grouped=is_grouped)
        groups.setdefault(keys[site.index], []).append(site)
    units = [Unit(i, tuple(members)) for i, members in enumerate(groups.values())]
    owner = {site.index: unit.index for unit in units for site in unit.sites}
    for unit in units:
        unit.anchors = frozenset(owner[i] for site in unit.sites for i in bits(site.anchors))
        unit.lights = frozenset(owner[i] for site in unit.sites for i in bits(site.lights))
        unit.followers = frozenset(owner[i] for site in unit.sites for i in followers[site.index])
    cells = list(_cells(units, sites))
    apart = {site.index for cell in cells for site in cell.biases}
    kept = [unit for unit in units if not all(site.index in apart for site in unit.sites)]
    gone = {unit.index for unit in units} - {unit.index for unit in kept}
    for unit in kept:
        unit.lights -= gone
    return Network(sites, kept, cells)


def _followers(sites: Sequence[Site]) -> dict[int, frozenset[int]]:
    found: dict[int, set[int]] = {site.index: set() for site in sites}
    for site in sites:
        if site.is_heavy:
            for i in bits(site.anchors | site.lights):
                found[i].add(site.index)
    return {index: frozenset(those) for index, those in found.items()}


def _key(
    site: Site, followers: dict[int, frozenset[int]], keys: dict[int, tuple[object, ...]], *, is_grouped: bool
) -> tuple[object, ...]:
    """Equal for sites of one unit; keys of earlier sites are known."""
    if not is_grouped or site.role not in ("contract", "recur", "bias") or site.piece.space:
        return (site.index,)
    if site.role == "bias":
        return (site.index,) if site.follows is None else ("bias", keys[site.follows])
    return (site.role, site.root, site.cell, site.piece.size(IN), *sorted(followers[site.index]))


def _cells(units: Sequence[Unit], sites: Sequence[Site]) -> Iterator[Cell]:
    """Recurrent units, each with the projection of the input that is added to it."""
    used: set[int] = set()
    for state in units:
        if state.role != "recur":
            continue
        fitting = [
            one
            for one in units
            if one.role == "contract" and one.index not in used and one.width == state.width
            and one.followers == state.followers and not one.sites[0].piece.space
        ]  # fmt: skip
        mine = [one for one in fitting if one.sites[0].cell and one.sites[0].cell == state.sites[0].cell]
        inputs = next(iter(mine or fitting), None)
        if inputs is None:
            continue
        used.add(inputs.index)
        own = sum(1 << site.index for site in (*inputs.sites, *state.sites))
        biases = [
            site for site in sites
            if site.role in ("bias", "shift") and site.anchors and site.anchors | own == own
            and (site.role == "bias" or site.cell == state.sites[0].cell)
            and int(str(site.signature[1])) in (state.width, 2 * state.width, *(s.piece.size(OUT) for s in state.sites))
        ]  # fmt: skip
        yield Cell(inputs, state, tuple(biases))
