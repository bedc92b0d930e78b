"""Which converters lead from one form to another, the cheapest way first."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator, Sequence

from regraft.deployment.convert.forms import form_named, takes
from regraft.deployment.convert.interface import Converter
from regraft.deployment.convert.members import converters, own_converters
from regraft.errors import Unsupported

_LONGEST = 4
"""Hops of a way; each one more is another chance to go wrong."""


def routes(form: str, to: str, *, avoid: Collection[str] = ()) -> Iterator[tuple[Converter, ...]]:
    """Every way from a form to a target that can work here, cheapest first; none passes a form twice.

    Those of other distributions come after the project's own: what is installed beside it does not change how a
    conversion is made, as long as that works.

    Args:
        form: of the source, as `torch`.
        to: target, as `openvino`.
        avoid: names of converters to leave out.
    """
    return _ways(form, to, [one for one in converters() if one.name not in avoid and not _obstacle(one)])


def _obstacle(member: Converter) -> str:
    """Why it cannot work here; a stranger's converter that cannot even say so works nowhere."""
    try:
        return member.obstacle()
    except Exception as error:
        if member in own_converters():
            raise
        return f"{type(error).__name__}: {error}"


def _ways(form: str, to: str, usable: Sequence[Converter]) -> Iterator[tuple[Converter, ...]]:
    own = own_converters()
    order = itertools.count()
    waiting: list[tuple[bool, int, int, tuple[Converter, ...]]] = [(False, 0, next(order), ())]
    while waiting:
        foreign, cost, _, path = heapq.heappop(waiting)
        at = path[-1].target if path else form
        if at == to and path:
            yield path
            continue
        if len(path) == _LONGEST or (path and form_named(at).precision):
            continue
        passed = {form, *(member.target for member in path)}
        for member in usable:
            if takes(member.source, at) and member.target not in passed and not _is_detour(at, member.target, to):
                longer = (foreign or member not in own, cost + member.cost, next(order), (*path, member))
                heapq.heappush(waiting, longer)


def _is_detour(at: str, target: str, to: str) -> bool:
    """One rewriting of a graph after the other leads nowhere that one of them does not."""
    base = form_named(at).base
    return bool(base) and target != to and form_named(target).base == base


def require_route(form: str, to: str, *, avoid: Collection[str] = ()) -> None:
    """Refuse what no way leads to.

    Raises:
        Unsupported: says what can be reached, and what stands in the way of what cannot.
    """
    if next(routes(form, to, avoid=avoid), None) is not None:
        return
    blocked = blocked_ways(form, to, avoid=avoid)
    if blocked:
        raise Unsupported(f"the ways from {form} to {to} cannot be gone here", hint="; ".join(blocked))
    targets = {member.target for member in converters()}
    reached = sorted(target for target in targets if next(routes(form, target, avoid=avoid), None))
    ways = f"it can become: {', '.join(reached)}" if reached else "no converter starts there"
    without = f" without {', '.join(sorted(avoid))}" if avoid else ""
    raise Unsupported(f"there is no way from {form} to {to}{without}; {ways}")


def blocked_ways(form: str, to: str, *, avoid: Collection[str] = ()) -> list[str]:
    """What stands in the way of converters on some way from `form` to `to`, that cannot work here."""
    wanted = [member for member in converters() if member.name not in avoid]
    on_them = {member.name: member for way in _ways(form, to, wanted) for member in way}
    return [f"{name}: {why}" for name, member in on_them.items() if (why := _obstacle(member))]
