"""Norms with fixed statistics, seen as parts of the projections in front of them: exporters fold them so.

Where the reference has them folded, and the candidate has them as they are, nothing says what they were: infinitely
many make the same function. The candidate's are set to the identity then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from regraft.compare.weight_map.arrangement import Choice
from regraft.compare.weight_map.interface import OUT
from regraft.compare.weight_map.pieces import Norm, Pair, Piece
from regraft.compare.weight_map.sites import Site, bits

_ADDED = " (what its norm adds)"
_WHY = "the reference has this norm folded; the identity is one of infinitely many that would do"


class Folded(msgspec.Struct, frozen=True):
    """A network without the norms that can be folded.

    Attributes:
        sites: without those of the norms; a projection that adds nothing adds something now.
        norms: weight of a projection, or what is added to it → the norm behind it.
        pieces: weight of a norm → what it is.
    """

    sites: list[Site]
    norms: dict[str, Norm]
    pieces: dict[str, Piece]

    def choice(self, plain: Choice) -> Choice:
        """The same choice between pairs, with the norms in them."""
        return msgspec.structs.replace(plain, ways=[[self._pair(one) for one in way] for way in plain.ways])

    def _pair(self, pair: Pair) -> Pair:
        names = [source.piece.weight for source in pair.sources]
        if len(names) != 1 or names[0] not in self.norms:
            return pair
        sources = () if names[0].endswith(_ADDED) else pair.sources
        return msgspec.structs.replace(pair, sources=sources, norm=self.norms[names[0]])

    @property
    def has_identities(self) -> bool:
        """Has each of them a place for what the other network adds: its own shift, or the projection's bias?"""
        return all(norm.shift or not name.endswith(_ADDED) for name, norm in self.norms.items())

    def choice_of_identities(self, plain: Choice) -> Choice:
        """The same choice where these are the candidate's norms: each is what changes nothing, but for what it adds."""
        ways = [[made for pair in way for made in self._with_identity(pair)] for way in plain.ways]
        return msgspec.structs.replace(plain, ways=ways)

    def _with_identity(self, pair: Pair) -> Iterator[Pair]:
        norm = self.norms.get(pair.candidate.weight)
        if norm is None:
            yield pair
            return
        free = msgspec.structs.replace(pair, is_free=True, why=_WHY)
        if not norm.is_added:
            yield free
            numbers = {norm.scale: 1.0, norm.centre: 0.0, norm.variance: 1.0 - norm.epsilon}
            for name, number in numbers.items():
                if name:
                    yield Pair(self.pieces[name], (), fill=number, is_free=True, why=_WHY)
        elif pair.candidate.weight.endswith(_ADDED):
            yield msgspec.structs.replace(free, candidate=self.pieces[norm.shift])
        else:
            yield free
            if norm.shift:
                yield Pair(self.pieces[norm.shift], (), is_free=True, why=_WHY)


def folded(sites: Sequence[Site], *, has_places: bool) -> Folded:
    """Fold every norm that directly follows a projection whose weight is used once.

    Args:
        sites: of the reference, in order.
        has_places: convolutions alone.
    """
    found: list[Site] = []
    norms: dict[str, Norm] = {}
    pieces = {site.piece.weight: site.piece for site in sites if site.behind is not None}
    groups = _groups(sites, has_places=has_places)
    gone: dict[int, int] = {}
    for heavy, parts in groups.items():
        site = sites[heavy]
        added = next((one for one in sites if one.role == "bias" and one.follows == heavy), None)
        if added is None:
            piece = Piece(site.piece.weight + _ADDED, (site.piece.size(OUT),), OUT)
            added = Site(len(sites) + heavy, "bias", piece, site.node, 1 << heavy, follows=heavy)
        norm = _norm(parts)
        norms[site.piece.weight] = norm
        norms[added.piece.weight] = msgspec.structs.replace(norm, is_added=True)
        gone |= {one.index: added.index for one in parts.values()}
        found.append(added)
    kept = [site for site in sites if site.index not in gone] + [one for one in found if one.index >= len(sites)]
    ordered = sorted(kept, key=lambda one: (one.follows if one.index >= len(sites) else one.index, one.index))
    return Folded([msgspec.structs.replace(one, lights=_lights(one.lights, gone)) for one in ordered], norms, pieces)


def _groups(sites: Sequence[Site], *, has_places: bool) -> dict[int, dict[str, Site]]:
    """Projection → the parts of the norm behind it, by role."""
    uses: dict[str, int] = {}
    for site in sites:
        uses[site.piece.weight] = uses.get(site.piece.weight, 0) + 1
    groups: dict[int, dict[str, Site]] = {}
    for site in sites:
        if site.behind is not None and site.anchors == 1 << site.behind:
            groups.setdefault(site.behind, {})[site.role] = site

    def is_foldable(heavy: Site, parts: Mapping[str, Site]) -> bool:
        is_whole = {"centre", "variance"} <= parts.keys() and heavy.role == "contract" and heavy.piece.part is None
        return is_whole and uses[heavy.piece.weight] == 1 and (bool(heavy.piece.space) or not has_places)

    return {heavy: parts for heavy, parts in groups.items() if is_foldable(sites[heavy], parts)}


def _norm(parts: Mapping[str, Site]) -> Norm:
    names = {role: site.piece.weight for role, site in parts.items()}
    return Norm(
        names.get("scale", ""), names.get("shift", ""), names["centre"], names["variance"], parts["variance"].epsilon
    )


def _lights(lights: int, gone: Mapping[int, int]) -> int:
    """Light uses that data went through: in place of a norm, what the projection adds now."""
    made = 0
    for index in bits(lights):
        made |= 1 << gone.get(index, index)
    return made
