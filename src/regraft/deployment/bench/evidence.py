"""What a run says, as evidence: measurements with intervals, what could not be measured, the budget judged."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.deployment.bench.forecast import report_predictions
from regraft.deployment.bench.price import price_of, report_agreement, report_energy
from regraft.deployment.bench.run import Live, Row, Run
from regraft.deployment.budget import DeviceBudget, Judgement, judge
from regraft.record.digest import Digest, package_digest
from regraft.record.environment import capture_environment
from regraft.record.evidence import (
    JSON,
    Artifact,
    Draft,
    Evidence,
    Finding,
    Measurement,
    Severity,
    Subject,
    Verdict,
    Where,
    combine,
)
from regraft.runtime.measure import latency_from_samples
from regraft.runtime.quantiles import CONFIDENCE, Quantile, quantile

if TYPE_CHECKING:
    from regraft.record.store import Store

_DEPENDENT = 0.3
"""Correlation of consecutive passes above which intervals that take them as independent are too narrow."""
_BUSY = 1.5
"""Wall time over the CPU time of all threads above which a model waited for something."""
_MIB = 1 << 20


def evidence_of_run(
    run: Run, draft: Draft, budget: DeviceBudget | None, *, store: Store | None, only: Digest | None = None
) -> Evidence:
    """Freeze a run.

    Args:
        draft: with the materials that the run was fed with.
        budget: judged when given.
        store: the single passes are kept there, as an artifact.
        only: about this package alone; None for all.
    """
    lives = [live for live in run.lives if only in (None, live.variant.subjects[0].sha256)]
    _name_subjects(draft, run, lives)
    for live in lives:
        _measure_live(draft, live)
        for row in run.rows:
            if row.live is live:
                _measure_row(draft, row, run)
    report_energy(draft, lives)
    is_predicted = budget is not None and budget.machine is not None
    if budget is not None and is_predicted:
        report_predictions(draft, run, [row for row in run.rows if row.live in lives], budget, _of_row)
    if only is None:
        draft.findings += [_refusal(refused.ref, refused.runtime, str(refused.error), refused.error.hint)
                           for refused in run.refused]  # fmt: skip
    _add_parameters(draft, run, lives)
    if store is not None:
        draft.artifacts.append(_passes(run, lives, store))
    verdicts = [draft.verdict]
    judged = {}
    if budget is not None:
        draft.materials.append(Subject(budget.name, budget.digest))
        judged = {
            _label(live): [judge(limit, _of(draft, live), is_predicted=is_predicted) for limit in budget.limits]
            for live in lives
        }
        fits = [combine(one.verdict for one in judgements) for judgements in judged.values()]
        best = next((v for v in (Verdict.PASS, Verdict.INCONCLUSIVE) if v in fits), Verdict.FAIL)
        verdicts.append(best)
        draft.findings += [
            _budget_finding(name, one, best) for name, judgements in judged.items() for one in judgements
        ]
    verdict = combine(verdicts)
    outcome = {Verdict.PASS: "measured", Verdict.FAIL: "over budget", Verdict.INCONCLUSIVE: "undecided"}[verdict]
    if budget is not None and verdict is Verdict.PASS:
        outcome = "within budget"
    evidence = draft.finish(outcome=outcome, summary=_summary(draft, run, lives, budget, judged), verdict=verdict)
    packages = {name: version for live in lives for one in live.started for name, version in one.packages.items()}
    environment = msgspec.structs.replace(evidence.environment, packages=packages)
    return msgspec.structs.replace(evidence, environment=environment)


def _name_subjects(draft: Draft, run: Run, lives: Sequence[Live]) -> None:
    packages = {live.variant.subjects[0].sha256: live.variant for live in lives}
    if len(packages) == 1:
        (variant,) = packages.values()
        draft.subject += variant.subjects
        draft.parameters["reference"] = str(variant.ref)
    else:
        firsts = [variant.subjects[0] for variant in packages.values()]
        together = package_digest((f"{number}", one.sha256) for number, one in enumerate(firsts))
        draft.subject += [Subject(f"{len(firsts)} packages side by side", together), *firsts]
    others = {live.variant.subjects[0].sha256: live.variant.subjects[0] for live in run.lives}
    draft.materials += [one for digest, one in others.items() if digest not in packages]


def _measure_live(draft: Draft, live: Live) -> None:
    of = _of_live(live)
    if live.variant.size_bytes is not None:
        draft.measure("size_on_disk", live.variant.size_bytes, "bytes", n=1, of=of)
    _measure_starts(draft, "load_time", [one.load_ms for one in live.started], "ms", of)
    report_agreement(draft, live, of, _label(live))
    if not live.variant.is_elsewhere:
        _measure_starts(draft, "peak_memory", [round(peak * _MIB) for peak in live.peaks_mib.values()], "bytes", of)
    if live.failure is not None:
        draft.find(_refusal(live.variant.name, live.variant.runtime, str(live.failure), live.failure.hint))
    if live.started and live.started[0].is_made_up:
        message = f"{live.variant.name}: measured on inputs that are not yours: {live.inputs}"
        if all(one.message != message for one in draft.findings):  # the same in several runtimes and precisions
            fix = "give data of yours: --texts FILE or --feeds FILE"
            draft.find(Finding("RGB-INP-001", Severity.INFO, message, data={"package": live.variant.name}, fix=fix))


def _measure_starts(draft: Draft, name: str, values: Sequence[float], unit: str, of: dict[str, JSON]) -> None:
    """A quantity that each process has once: the median, with the range over the processes."""
    if values:
        several = {"low": min(values), "high": max(values)} if len(values) > 1 else {}
        middle = statistics.median(values)
        draft.measure(name, middle, unit, n=len(values), of=of, **several)


def _measure_row(draft: Draft, row: Row, run: Run) -> None:
    of = _of_row(row)
    if row.failure is not None and row.live.failure is None:
        hint = row.failure.hint
        if row.live.started and row.live.started[0].is_made_up:
            hint = f"{hint}; " * bool(hint) + "inputs were made up: give it some that it takes, with --feeds FILE"
        draft.find(_refusal(_place(row), None, str(row.failure), hint))
    if row.warm_ups:
        _measure_starts(draft, "first_inference", [one.first_ms for one in row.warm_ups], "ms", of)
        _measure_starts(draft, "warm_up", [one.passes for one in row.warm_ups], "count", of)
    if not row.samples:
        return
    found = latency_from_samples(row.samples, batch=row.batch)
    _measure_quantile(draft, "latency_p50", found.p50_ms, "ms", of)
    _measure_quantile(draft, "latency_p95", found.p95_ms, "ms", of)
    _measure_quantile(draft, "latency_p99", found.p99_ms, "ms", of)
    _measure_quantile(draft, "throughput", found.items_per_s, "samples/s", of)
    if row.energies_j:
        _measure_quantile(draft, "energy_per_row", quantile([one / row.batch for one in row.energies_j], 0.5), "J", of)
    _judge_runs(draft, row, run, of)
    if found.cpu_ms is not None and not row.live.variant.is_elsewhere:
        draft.measure("cpu_time", found.cpu_ms, "ms", n=found.n, of=of)
        _judge_waiting(draft, row, found.p50_ms.value, found.cpu_ms, of)


def _judge_waiting(draft: Draft, row: Row, wall_ms: float, cpu_ms: float, of: dict[str, JSON]) -> None:
    if cpu_ms > 0 and wall_ms > _BUSY * cpu_ms:
        message = (
            f"{_place(row)}: {wall_ms:.3g} ms on the clock for {cpu_ms:.3g} "
            "ms of computing: the machine was busy with something else"
        )
        draft.find(Finding("RGB-RUN-005", Severity.MEDIUM, message, data=of, fix="run it on a quieter machine"))


def _judge_runs(draft: Draft, row: Row, run: Run, of: dict[str, JSON]) -> None:
    """What a reader should know about the passes before the intervals are believed."""
    place, n, wanted = _place(row), len(row.samples), run.settings.runs
    passes = [one.passes for one in row.warm_ups if not one.is_settled]
    if passes:
        message = f"{place}: the time of a pass had not settled after {max(passes)} passes, when it was measured"
        fix = "run it on a quieter machine; of slow passes make more: --runs, --row-limit"
        draft.find(Finding("RGB-RUN-002", Severity.MEDIUM, message, data=of, fix=fix))
    if n < wanted and row.failure is None:
        message = f"{place}: {n} of {wanted} passes fitted into {run.settings.time_limit_s:g} s"
        draft.find(Finding("RGB-RUN-003", Severity.LOW, message, data=of, fix="raise --row-limit"))
    correlation = _correlation([one.wall_ms for one in row.samples])
    if correlation > _DEPENDENT:
        message = f"{place}: consecutive passes are correlated ({correlation:.2f}); the intervals are too narrow"
        fix = "run it on a quieter machine, or with more starts"
        draft.find(Finding("RGB-RUN-004", Severity.LOW, message, data={**of, "correlation": correlation}, fix=fix))


def _measure_quantile(draft: Draft, name: str, found: Quantile, unit: str, of: dict[str, JSON]) -> None:
    draft.measure(name, found.value, unit, low=found.low, high=found.high, n=found.n, of=of)


def _of_live(live: Live) -> dict[str, JSON]:
    started = live.started[0] if live.started else None
    of: dict[str, JSON] = {
        "package": live.variant.name,
        "runtime": started.runtime if started else live.variant.runtime,
    }
    precision = started.precision if started else live.variant.precision
    if precision is not None:
        of["precision"] = precision
    if live.variant.threads is not None:
        of["threads"] = live.variant.threads
    return of


def _of_row(row: Row) -> dict[str, JSON]:
    length: dict[str, JSON] = {} if row.size.length is None else {"length": row.size.length}
    return {**_of_live(row.live), "batch": row.batch, **length}


def _label(live: Live) -> str:
    """Package and runtime; threads and precision where they were chosen in several ways."""
    runtime = live.started[0].runtime if live.started else live.variant.runtime
    name = f"{live.variant.name} in {runtime}" if runtime else live.variant.name
    told = [live.variant.precision] if "precision" in live.told else []
    if "threads" in live.told and live.variant.threads is not None:
        told.append(_count(live.variant.threads, "thread"))
    return ", ".join([name, *map(str, told)])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _place(row: Row) -> str:
    length = "" if row.size.length is None else f", length {row.size.length}"
    return f"{_label(row.live)} at batch {row.batch}{length}"


def _of(draft: Draft, live: Live) -> list[Measurement]:
    of = _of_live(live)
    return [one for one in draft.measurements if all(one.of.get(key) == value for key, value in of.items())]


def _refusal(name: str, runtime: str | None, why: str, hint: str) -> Finding:
    where = f"{name} in {runtime}" if runtime else name
    return Finding("RGB-RUN-001", Severity.UNKNOWN, f"{where}: not measured: {why}", Where(file=name), fix=hint or None)


def _budget_finding(name: str, one: Judgement, best: Verdict) -> Finding:
    """A missed limit fails only when no model meets all of them; a met one is a note."""
    data: dict[str, JSON] = {"limit": one.limit.amount, "unit": one.limit.unit, "margin": one.margin}
    severity, rule = {
        Verdict.PASS: (Severity.INFO, "RGB-BUD-001"),
        Verdict.FAIL: (Severity.HIGH if best is Verdict.FAIL else Severity.MEDIUM, "RGB-BUD-002"),
        Verdict.INCONCLUSIVE: (Severity.UNKNOWN if best is not Verdict.PASS else Severity.LOW, "RGB-BUD-003"),
    }[one.verdict]
    return Finding(rule, severity, f"{name}: {one.message}", data=data)


def _add_parameters(draft: Draft, run: Run, lives: Sequence[Live]) -> None:
    settings = run.settings
    draft.parameters |= {
        "runs": settings.runs,
        "starts": settings.starts,
        "batch_sizes": list(dict.fromkeys(size.batch for size in settings.sizes)),
        "lengths": [length for length in dict.fromkeys(size.length for size in settings.sizes) if length is not None],
        "threads": _one_or_all([live.variant.threads for live in run.lives]),
        "precision": _one_or_all([live.variant.precision for live in run.lives]),
        "compared_with": _label(run.lives[0]) if any(live.agreed for live in run.lives) else None,
        "inputs": {_label(live): live.inputs for live in lives if live.started},
        "seed": settings.request.seed,
        "time_limit_s": settings.time_limit_s,
        "confidence": CONFIDENCE,
        "intervals": "order statistics, passes taken as independent; memory, load and first pass: range of processes",
        "turns": "rows take turns in random order; the first pass of each turn is dropped",
    }


def _one_or_all(values: Sequence[int | str | None]) -> JSON:
    """A setting that all share, or all of its values."""
    several: list[JSON] = list(dict.fromkeys(values))
    return several[0] if len(several) == 1 else several


def _passes(run: Run, lives: Sequence[Live], store: Store) -> Artifact:
    rows: list[JSON] = [{"of": _of_row(row), "turns": row.turns} for row in run.rows if row.live in lives]
    digest = store.put_blob([msgspec.json.encode(rows)])
    return Artifact("passes", digest, "application/json")


def _summary(
    draft: Draft, run: Run, lives: Sequence[Live], budget: DeviceBudget | None, judged: dict[str, list[Judgement]]
) -> str:
    measured = [row for row in run.rows if row.live in lives and row.samples]
    if not measured:
        return "nothing could be measured"
    smallest = min((row.size for row in measured), key=lambda size: (size.batch, size.length or 0))
    batch = smallest.batch
    rows = [(row, latency_from_samples(row.samples, batch=batch)) for row in measured if row.size == smallest]
    fastest, found = min(rows, key=lambda one: one[1].p50_ms.value)
    environment = capture_environment()
    threads = fastest.live.variant.threads  # a runtime's own number may be 1 (MNN), or as many as there are
    machine = f"{_count(found.n, 'run')}, "
    if threads is not None:
        machine += f"{_count(threads, 'thread')}, {environment.cpu}"
    else:
        machine += f"{environment.cpu} of {_count(environment.threads, 'thread')}"
    p95 = f"p95 {_text(found.p95_ms)} at batch {batch}"
    if budget is not None:
        return f"{_budget_text(budget, judged)}; {machine}"
    if len(rows) == 1:
        return f"{_label(fastest.live)}: {p95}; {machine}"
    ties = [_label(row.live) for row, one in rows if row is not fastest and _overlap(found.p50_ms, one.p50_ms)]
    tie = f", a tie with {', '.join(ties)}" if ties else ""
    return f"fastest of {len(rows)}: {_label(fastest.live)}{price_of(fastest.live)}, {p95}{tie}; {machine}"


def _budget_text(budget: DeviceBudget, judged: dict[str, list[Judgement]]) -> str:
    fits = [name for name, several in judged.items() if all(one.verdict is Verdict.PASS for one in several)]
    if fits:
        return f"{', '.join(fits)} {'fit' if len(fits) > 1 else 'fits'} {budget.name}"
    closest, wanting = min(
        ((name, [one for one in several if one.verdict is not Verdict.PASS]) for name, several in judged.items()),
        key=lambda pair: (max(_miss(one) for one in pair[1]), pair[0]),
    )
    among = "closest to" if len(judged) > 1 else "against"
    return f"{closest}, {among} {budget.name}: " + "; ".join(one.message for one in wanting)


def _miss(one: Judgement) -> float:
    """By what share a limit is missed; what was not measured counts as the furthest."""
    if one.margin is None:
        return float("inf") if "not measured" in one.message else 0.0
    return abs(one.margin) / one.limit.amount if one.limit.amount else float("inf")


def _overlap(one: Quantile, other: Quantile) -> bool:
    return (one.high is None or other.low is None or one.high >= other.low) and (
        other.high is None or one.low is None or other.high >= one.low
    )


def _text(found: Quantile) -> str:
    ends = ", ".join("?" if end is None else f"{end:.3g}" for end in (found.low, found.high))
    return f"{found.value:.3g} ms [{ends}]"


def _correlation(values: Sequence[float]) -> float:
    """Of the ranks of consecutive values; 0 where there is nothing to correlate."""
    if len(values) < 10 or len(set(values)) < 3:
        return 0.0
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    for rank, index in enumerate(order):
        ranks[index] = rank
    return statistics.correlation(ranks[:-1], ranks[1:])
