"""The budget of a device: latency, throughput, memory and size, judged on measured intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from regraft.errors import UsageError
from regraft.record.digest import Digest, digest_bytes
from regraft.record.document import Document, parse_document, read_document
from regraft.record.evidence import Measurement, Verdict
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
}
"""Key of the file that sets an upper limit → (measurement, its unit, example)."""
_LEAST = {"throughput": ("throughput", "samples/s", "50 samples/s")}
_PER_BATCH = ("latency_p50", "latency_p95", "latency_p99", "throughput")


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


class DeviceBudget(msgspec.Struct, frozen=True):
    """What a device allows a model."""

    name: str
    digest: Digest
    limits: tuple[Limit, ...]


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


def read_budget(path: Path) -> DeviceBudget:
    """Read a budget file.

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
    return budget_from_document(inner, digest=digest_bytes(data), name=name)


def budget_from_document(document: Document, *, digest: Digest, name: str) -> DeviceBudget:
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
    Raises:
        RegraftError: of the document's class: unknown key, wrong unit, no limit.
    """
    fields = document.mapping(document.value, (), _KEYS)
    batch = document.count(fields["batch"], ("batch",), least=1) if "batch" in fields else 1
    limits = []
    for key, (measurement, unit, example) in {**_MOST, **_LEAST}.items():
        if key in fields:
            amount = document.amount(fields[key], (key,), unit=unit, what=f"an amount in {unit}", example=example)
            at = batch if measurement in _PER_BATCH else None
            limits.append(Limit(key, measurement, amount, unit, key in _MOST, at))
    if not limits:
        document.refuse("the budget limits nothing", (), hint=_EXAMPLE)
    return DeviceBudget(name, digest, tuple(limits))


def judge(limit: Limit, measurements: Sequence[Measurement]) -> Judgement:
    """Judge one limit on the measurements of one model in one runtime.

    A measurement without an interval (the size on disk) is judged by its value; one whose interval has no end
    on the side of the limit (too few runs) is never a pass.
    """
    found = [
        one
        for one in measurements
        if one.name == limit.measurement and (limit.batch is None or one.of.get("batch") == limit.batch)
    ]
    if not found or found[0].value is None:
        return Judgement(limit, Verdict.INCONCLUSIVE, None, f"{limit}: not measured")
    one = found[0]
    low, high = _interval(one, limit.unit)
    said = _said(one, low, high, limit.unit)
    near, far = (high, low) if limit.is_upper else (low, high)
    sign = 1 if limit.is_upper else -1
    if far is not None and sign * (limit.amount - far) < 0:
        margin = sign * (limit.amount - far)
        return Judgement(limit, Verdict.FAIL, margin, f"{limit}: {said}, missed by {_part(margin, limit)}")
    if near is not None and sign * (limit.amount - near) >= 0:
        margin = sign * (limit.amount - near)
        return Judgement(limit, Verdict.PASS, margin, f"{limit}: {said}, met with {_part(margin, limit)} to spare")
    why = "the interval straddles the limit" if near is not None else "too few runs to bound it"
    return Judgement(limit, Verdict.INCONCLUSIVE, None, f"{limit}: {said}, {why}")


def _interval(one: Measurement, unit: str) -> tuple[float | None, float | None]:
    ends = (one.low, one.high) if one.n is not None and one.n > 1 else (one.value, one.value)
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


_KEYS = (*_MOST, *_LEAST, "batch")
_EXAMPLE = f"for example:  schema: {SCHEMA}  /  latency_p95: 20 ms  /  size: 100 MB"
