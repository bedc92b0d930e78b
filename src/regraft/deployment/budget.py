"""The budget of a device: latency, throughput, memory and size, judged on measured intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from regraft.errors import UsageError
from regraft.record.digest import Digest, digest_bytes
from regraft.record.document import Document, parse_document, read_document
from regraft.record.evidence import JSON, Measurement, Verdict
from regraft.record.units import amount_text, convert

SCHEMA = "regraft.device/1"
_MOST: dict[str, tuple[str, str, str]] = {
    "latency_p50": ("latency_p50", "ms", "20 ms"),
    "latency_p95": ("latency_p95", "ms", "20 ms"),
    "latency_p99": ("latency_p99", "ms", "40 ms"),
    "first_inference": ("first_inference", "ms", "200 ms"),
    "load_time": ("load_time", "ms", "2 s"),
    "peak_memory": ("peak_memory", "bytes", "500 MB"),
    "size": ("size_on_disk", "bytes", "100 MB"),
    "energy": ("energy_per_row", "J", "0.5 J"),
}
"""Key of the file that sets an upper limit → (measurement, its unit, example)."""
_LEAST = {"throughput": ("throughput", "samples/s", "50 samples/s")}
_PER_BATCH = ("latency_p50", "latency_p95", "latency_p99", "throughput", "energy_per_row", "first_inference")
_TIMED = (*_PER_BATCH, "load_time")
"""What another processor changes, and what comes out anew each time: one of them alone bounds nothing."""


class Limit(msgspec.Struct, frozen=True):
    """One demand: a measurement is at most, or at least, an amount.

    Attributes:
        key: what the file calls it.
        measurement: the name of the measurement that it judges.
        amount: in `unit`.
        is_upper: at most; False for at least.
        batch: rows of a pass that it holds for; None where a batch plays no part.
    """

    key: str
    measurement: str
    amount: float
    unit: str
    is_upper: bool = True
    batch: int | None = None

    def __str__(self) -> str:
        at = f" at batch {self.batch}" if self.batch is not None else ""
        return f"{self.key} {'≤' if self.is_upper else '≥'} {amount_text(self.amount, self.unit)}{at}"


class Machine(msgspec.Struct, frozen=True):
    """A processor, as far as a pass through a network feels it.

    Attributes:
        flops: float32 operations a second of a large matrix product, on the threads that a pass has.
        bytes_per_s: memory read and written while a large array is copied, on the same threads.
    """

    flops: float
    bytes_per_s: float


class DeviceBudget(msgspec.Struct, frozen=True):
    """What a device allows a model.

    Attributes:
        machine: its processor, where it is another than this one; None where what is measured here counts.
    """

    name: str
    digest: Digest
    limits: tuple[Limit, ...]
    machine: Machine | None = None


class Judgement(msgspec.Struct, frozen=True):
    """One limit, judged for one model in one runtime.

    Attributes:
        verdict: fail only if the whole interval is beyond the limit, pass only if it is within.
        margin: distance of the decisive end of the interval from the limit, in the limit's unit; negative when
            the limit is missed; None when nothing was measured.
        message: with the numbers, for a human.
    """

    limit: Limit
    verdict: Verdict
    margin: float | None
    message: str


def read_budget(path: Path, *, describes: bool = False) -> DeviceBudget:
    """Read a budget file.

    Args:
        describes: it may describe another processor than this one; who measures here alone refuses that.
    Raises:
        UsageError: it cannot be understood; `where` is file:line.
        NotFound, AccessDenied: it cannot be read.
    """
    data = read_document(path, what="device budget")
    document = parse_document(data, name=str(path), error=UsageError, example=_EXAMPLE)
    top = document.mapping(document.value, (), ("schema", "name", *_KEYS))
    if top.get("schema") != SCHEMA:
        document.refuse(f"the schema is not {SCHEMA!r}", ("schema",), hint=f"schema: {SCHEMA}")
    name = document.text(top["name"], ("name",)) if "name" in top else path.stem
    rest = {key: value for key, value in top.items() if key not in ("schema", "name")}
    inner = Document(document.name, rest, {(key,): document.line((key,)) or 1 for key in rest}, error=UsageError)
    return budget_from_document(inner, digest=digest_bytes(data), name=name, describes=describes)


def budget_from_document(document: Document, *, digest: Digest, name: str, describes: bool = False) -> DeviceBudget:
    """The budget that a mapping of limits is, for instance a part of a plan.

        latency_p95: 20 ms
        throughput: 50 samples/s
        peak_memory: 500 MB
        size: 100 MB
        batch: 1

    Args:
        document: complaints are of its own class.
        digest: of what stands for the budget in evidence.
        name: of the device.
        describes: it may describe another processor: `machine: {compute: 40 GFLOP/s, memory: 8 GB/s}`.
    Raises:
        RegraftError: of the document's class: unknown key, wrong unit, no limit.
    """
    fields = document.mapping(document.value, (), _KEYS)
    if "machine" in fields and not describes:
        document.refuse(_MEASURED_HERE, ("machine",), hint="regraft bench --device predicts for a described processor")
    machine = _machine(document, fields["machine"]) if "machine" in fields else None
    batch = document.count(fields["batch"], ("batch",), least=1) if "batch" in fields else 1
    limits = []
    for key, (measurement, unit, example) in {**_MOST, **_LEAST}.items():
        if key in fields:
            amount = document.amount(fields[key], (key,), unit=unit, what=f"an amount in {unit}", example=example)
            at = batch if measurement in _PER_BATCH else None
            limits.append(Limit(key, measurement, amount, unit, key in _MOST, at))
    if not limits and machine is None:
        document.refuse("the budget limits nothing", (), hint=_EXAMPLE)
    return DeviceBudget(name, digest, tuple(limits), machine)


def _machine(document: Document, value: JSON) -> Machine:
    """`machine: {compute: 40 GFLOP/s, memory: 8 GB/s}`."""
    fields = document.mapping(value, ("machine",), tuple(_MACHINE))
    found = []
    for key, (unit, example) in _MACHINE.items():
        if key not in fields:
            document.refuse(f"machine says no {key}", ("machine",), hint=f"{key}: {example}")
        amount = document.amount(fields[key], ("machine", key), unit=unit, what=f"an amount in {unit}", example=example)
        if amount <= 0:
            document.refuse(f"a machine without {key}", ("machine", key), hint=f"{key}: {example}")
        found.append(amount)
    return Machine(*found)


def judge(limit: Limit, measurements: Sequence[Measurement], *, is_predicted: bool = False) -> Judgement:
    """Judge one limit on the measurements of one model in one runtime.

    A quantity that does not change from run to run (size, memory of one process) is judged by its value; a time whose
    interval has no end on the side of the limit (too few runs or starts) is never a pass.

    Args:
        limit: one demand.
        measurements: among them the one that it names.
        is_predicted: times count as they were predicted for the device, not as they were measured here.
    """
    timed = limit.measurement in _TIMED
    name = f"predicted_{limit.measurement}" if is_predicted and timed else limit.measurement
    found = [
        one for one in measurements if one.name == name and (limit.batch is None or one.of.get("batch") == limit.batch)
    ]
    if not found or found[0].value is None:
        how = "predicted" if is_predicted and timed else "measured"
        return Judgement(limit, Verdict.INCONCLUSIVE, None, f"{limit}: not {how}")
    worst = max if limit.is_upper else min  # of several lengths
    one = worst(found, key=lambda some: some.value or 0.0)
    low, high = _interval(one, limit.unit, is_exact=not timed and one.n in (None, 1))
    said = ("predicted " if is_predicted and timed else "") + _said(one, low, high, limit.unit)
    near, far = (high, low) if limit.is_upper else (low, high)
    sign = 1 if limit.is_upper else -1
    if far is not None and sign * (limit.amount - far) < 0:
        margin = sign * (limit.amount - far)
        return Judgement(limit, Verdict.FAIL, margin, f"{limit}: {said}, missed by {_part(margin, limit)}")
    if near is not None and sign * (limit.amount - near) >= 0:
        margin = sign * (limit.amount - near)
        return Judgement(limit, Verdict.PASS, margin, f"{limit}: {said}, met with {_part(margin, limit)} to spare")
    why = "the interval straddles the limit" if near is not None else "too few runs or starts to bound it"
    return Judgement(limit, Verdict.INCONCLUSIVE, None, f"{limit}: {said}, {why}")


def _interval(one: Measurement, unit: str, *, is_exact: bool) -> tuple[float | None, float | None]:
    ends = (one.value, one.value) if is_exact else (one.low, one.high)
    low, high = (None if end is None else convert(end, one.unit, to=unit) for end in ends)
    return low, high


def _said(one: Measurement, low: float | None, high: float | None, unit: str) -> str:
    assert one.value is not None
    value = convert(one.value, one.unit, to=unit)
    if low == high and value is not None:
        return amount_text(value, unit)
    return f"{value:.4g} {unit} [{'?' if low is None else f'{low:.4g}'}, {'?' if high is None else f'{high:.4g}'}]"


def _part(margin: float, limit: Limit) -> str:
    share = f" ({abs(margin) / limit.amount:.0%})" if limit.amount else ""
    return f"{amount_text(abs(margin), limit.unit)}{share}"


_MACHINE = {"compute": ("FLOP/s", "40 GFLOP/s"), "memory": ("B/s", "8 GB/s")}
"""Key of a described processor → unit, example."""
_MEASURED_HERE = "limits are judged here on what is measured on this processor, not on another that is described"
_KEYS = (*_MOST, *_LEAST, "batch", "machine")
_EXAMPLE = f"for example:  schema: {SCHEMA}  /  latency_p95: 20 ms  /  size: 100 MB"
