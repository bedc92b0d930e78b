"""Hard constraints: what a candidate must meet before anything of it is computed, read from its passport."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from regraft.adaptation.features import Examined
from regraft.record.evidence import JSON, Verdict
from regraft.record.policy import Policy, evaluate
from regraft.record.units import amount_text, convert

_SIZE = "size_on_disk"
KINDS = ("scan", "inspect")
"""Demands of a policy that can be judged before a package is adapted."""


class Limit(Protocol):
    """One demand of a device: a measurement is at most, or at least, an amount."""

    @property
    def key(self) -> str:
        """What a budget file calls it."""

    @property
    def measurement(self) -> str:
        """Name of the measurement that it judges."""

    @property
    def amount(self) -> float:
        """In `unit`."""

    @property
    def unit(self) -> str:
        """Of the amount."""

    @property
    def is_upper(self) -> bool:
        """At most; False for at least."""

    @property
    def batch(self) -> int | None:
        """Rows of a pass that it holds for."""


class DeviceLimits(Protocol):
    """What a device allows: a budget of the deployment room, or a `Budget`."""

    @property
    def limits(self) -> Sequence[Limit]:
        """Each of them counts."""


class Bound(msgspec.Struct, frozen=True):
    """An upper limit. See `Limit`."""

    key: str
    measurement: str
    amount: float
    unit: str
    is_upper: bool = True
    batch: int | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The usual limits of a device; None: no bound.

    Attributes:
        latency_p95_ms: of one input at a time.
        memory_bytes: resident, of the process that executes the model.
        size_bytes: of the files.
    """

    latency_p95_ms: float | None = None
    memory_bytes: int | None = None
    size_bytes: int | None = None

    @property
    def limits(self) -> tuple[Bound, ...]:
        """Those that are set."""
        wanted = (
            ("latency_p95", "latency_p95", self.latency_p95_ms, "ms", 1),
            ("peak_memory", "peak_memory", self.memory_bytes, "bytes", None),
            ("size", _SIZE, self.size_bytes, "bytes", None),
        )
        return tuple(
            Bound(key, name, amount, unit, True, batch)
            for key, name, amount, unit, batch in wanted
            if amount is not None
        )


class Judged(msgspec.Struct, frozen=True):
    """One constraint, judged for one candidate.

    Attributes:
        verdict: inconclusive where nothing is known.
        excess: share by which it lies beyond the limit, negative within it; None where it is not a number.
        is_for_later: nothing is wrong; a later step finds it out.
    """

    constraint: str
    verdict: Verdict
    message: str
    excess: float | None = None
    is_for_later: bool = False

    def data(self) -> dict[str, JSON]:
        """As evidence records it."""
        return {"constraint": self.constraint, "verdict": self.verdict.value, "excess": self.excess}


def judge(examined: Examined, budget: DeviceLimits | None, policy: Policy | None) -> list[Judged]:
    """Every constraint for one candidate.

    Args:
        budget: the size is that of the files, the rest is what `bench` evidence in the store says of these bytes.
        policy: of its demands, those on scan and inspect evidence, and on the licence.
    """
    limits = budget.limits if budget is not None else ()
    return [*(_limited(examined, limit) for limit in limits), *_policy(examined, policy)]


def _limited(examined: Examined, limit: Limit) -> Judged:
    found = _measurement(examined, limit)
    if found is None:
        message = f"{limit.key} of the package as it is was not measured; bench judges what it is converted to"
        return Judged(limit.key, Verdict.INCONCLUSIVE, message, is_for_later=True)
    low, high = found
    shown = amount_text(low, limit.unit) if low == high else f"[{low:.4g}, {high:.4g}] {limit.unit}"
    said = f"{limit.key} {shown}"
    sign = 1 if limit.is_upper else -1
    nearest, farthest = (low, high) if limit.is_upper else (high, low)
    excess = sign * (nearest / limit.amount - 1) if limit.amount else None
    allowed = f"{'at most' if limit.is_upper else 'at least'} {amount_text(limit.amount, limit.unit)}"
    if sign * (nearest - limit.amount) > 0:
        by = f", missed by {excess:.0%}" if excess is not None else ""
        return Judged(limit.key, Verdict.FAIL, f"{said}, allowed is {allowed}{by}", excess)
    verdict = Verdict.PASS if sign * (farthest - limit.amount) <= 0 else Verdict.INCONCLUSIVE
    return Judged(limit.key, verdict, f"{said}, allowed is {allowed}", excess)


def _measurement(examined: Examined, limit: Limit) -> tuple[float, float] | None:
    """Both ends of what is known, in the limit's unit; of several runtimes the best."""
    if limit.measurement == _SIZE:
        return None if examined.size_bytes is None else (examined.size_bytes, examined.size_bytes)
    bench = examined.passport.latest("bench")
    found = []
    for one in bench.evidence.measurements if bench is not None else ():
        if one.name == limit.measurement and limit.batch in (None, one.of.get("batch")):
            ends = [_converted(end, one.value, one.unit, limit.unit) for end in (one.low, one.high)]
            if ends[0] is not None and ends[1] is not None:
                found.append((ends[0], ends[1]))
    if not found:
        return None
    return min(found) if limit.is_upper else max(found)


def _converted(end: float | None, value: float | None, unit: str, to: str) -> float | None:
    known = value if end is None else end
    return None if known is None else convert(known, unit, to=to)


def _policy(examined: Examined, policy: Policy | None) -> Iterator[Judged]:
    if policy is None:
        return
    early = msgspec.structs.replace(policy, demands=tuple(d for d in policy.demands if d.kind in KINDS))
    for finding in evaluate(early, examined.passport, reference=examined.candidate.ref).findings:
        yield Judged(finding.rule, finding.severity.verdict, finding.message)
