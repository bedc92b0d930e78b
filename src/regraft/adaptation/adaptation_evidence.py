"""What an adaptation amounts to, as evidence: the product, its lineage, and how good it is on held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.adaptation.data import LabelledData
from regraft.adaptation.features import Examined, Features
from regraft.adaptation.intervals import Interval
from regraft.adaptation.splits import Split
from regraft.package.package import open_package
from regraft.record.evidence import JSON, Draft, Evidence, Finding, Severity, Subject, Verdict

if TYPE_CHECKING:
    from regraft.adaptation.adapt import Reloaded, Scores

NOT_BETTER, BROKEN, CALIBRATION, LICENCE_UNKNOWN = (f"RGA-ADP-{number:03}" for number in range(1, 5))
_INTERVALS = "Wilson; Agresti-Min for the paired gain; exact McNemar"


def record_adaptation(
    draft: Draft,
    target: Path,
    data: LabelledData,
    rows: Split,
    examined: Examined,
    features: Features,
    scores: Scores,
    reloaded: Reloaded,
    parameters: dict[str, Any],
) -> Evidence:
    """Freeze what is known about a package that was written, into a draft that was begun with the work."""
    _name_materials(draft, data, rows, examined, parameters)
    draft.parameters |= {"strength": scores.strength, "features": features.preprocessing, "intervals": _INTERVALS}
    draft.parameters |= {"temperature": scores.temperature}
    with open_package(target) as package:
        subjects = package.subjects(package.manifest())
        has_licence = any(entry.path.startswith("licenses/") for entry in package.entries)
        size = sum(entry.size_bytes for entry in package.entries)
    draft.subject += subjects
    _measure_scores(draft, rows, scores)
    of: dict[str, JSON] = {"rows": reloaded.rows}
    draft.measure("reload_deviation", reloaded.deviation, "1", n=reloaded.rows, of=of)
    draft.measure("size", size, "bytes")
    if not has_licence:
        message = "no licence text was found in the package that was built on"
        draft.find(Finding(LICENCE_UNKNOWN, Severity.LOW, message, fix="Ask its publisher before passing it on."))
    calibration = f"expected calibration error {scores.calibration:.3f} over 15 bins, "
    calibration += f"after one temperature ({scores.temperature:.3g}) fitted on out-of-fold logits"
    draft.find(Finding(CALIBRATION, Severity.INFO, calibration, data={"temperature": scores.temperature}))
    gain = scores.gain.difference
    said = f"accuracy {_percent(scores.accuracy)} on {rows.held_out.size:,} held-out rows"
    said += (
        f", {100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] over {scores.baseline_name}"
    )
    if not reloaded.is_equal:
        message = f"the written package answers otherwise: logits differ by {reloaded.deviation:.2g}"
        draft.find(Finding(BROKEN, Severity.HIGH, message, data={"changed": reloaded.changed, "rows": reloaded.rows}))
        return draft.finish(outcome="broken", summary=message)
    if gain.low <= 0:
        message = f"the gain over {scores.baseline_name} is not beyond noise"
        draft.find(Finding(NOT_BETTER, Severity.MEDIUM, message, fix="Label more rows, or try another candidate."))
        return draft.finish(outcome="not_better", summary=said)
    return draft.finish(outcome="adapted", summary=said)


def record_undecided(
    draft: Draft, data: LabelledData, rows: Split, examined: Examined, parameters: dict[str, Any]
) -> Evidence:
    """Evidence that nothing could be learnt from this data."""
    _name_materials(draft, data, rows, examined, parameters)
    draft.subject.append(examined.subject)
    why = next(f.message for f in data.findings if f.severity is Severity.UNKNOWN)
    return draft.finish(outcome="undecided", summary=f"nothing was made: {why}", verdict=Verdict.INCONCLUSIVE)


def _name_materials(
    draft: Draft, data: LabelledData, rows: Split, examined: Examined, parameters: dict[str, Any]
) -> None:
    draft.parameters |= parameters
    draft.materials.append(examined.subject)
    draft.materials += data.materials
    draft.materials += [
        Subject(f"{name} rows", data.digest(numbers))
        for name, numbers in (("learning", rows.learn), ("held-out", rows.held_out))
    ]
    draft.findings += [*data.findings, *rows.findings]


def _measure_scores(draft: Draft, rows: Split, scores: Scores) -> None:
    of: dict[str, JSON] = {"split": "held-out", "labels": int(rows.learn.size), "seed": rows.seed}
    _measure(draft, "accuracy", scores.accuracy, "1", of)
    _measure(draft, "baseline_accuracy", scores.baseline, "1", {**of, "method": scores.baseline_name})
    gain = scores.gain
    difference = gain.difference
    ends = [100 * end for end in (difference.value, difference.low, difference.high)]
    points = Interval(ends[0], ends[1], ends[2], difference.n)
    against: dict[str, JSON] = {**of, "against": scores.baseline_name, "p_value": gain.p_value}
    against |= {"only_this": gain.only_first, "only_baseline": gain.only_second}
    _measure(draft, "accuracy_gain", points, "points", against)
    for name, recall in list(scores.recalls.items())[:20]:
        _measure(draft, "recall", recall, "1", {**of, "label": name})
    draft.measure("log_loss", round(scores.log_loss, 6), "nats", n=scores.accuracy.n, of=of)
    draft.measure("calibration_error", round(scores.calibration, 6), "1", n=scores.accuracy.n, of={**of, "bins": 15})


def _measure(draft: Draft, name: str, interval: Interval, unit: str, of: dict[str, JSON]) -> None:
    low, high = round(interval.low, 6), round(interval.high, 6)
    draft.measure(name, round(interval.value, 6), unit, low=low, high=high, n=interval.n, of=of)


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"
