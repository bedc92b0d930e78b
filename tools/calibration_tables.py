"""From calibration cases to thresholds, and to the tables of the documentation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MARGIN = 2.0
"""The benign threshold lies so far above the largest benign ratio."""
SPARED = 20
"""One architecture of so many may lie beyond: its runtime's kernels are worse than rounding, and it stays undecided."""
GAP = 2.0
"""The fault threshold lies so far above the benign one: between them nobody knows."""
_CONFIDENCE = 0.95
_BEGIN, _END = "<!-- calibration -->", "<!-- end of calibration -->"


def summarised(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Thresholds for every method and precision, with how they were found and how often they err."""
    keys = sorted({(case["method"], case["precision"]) for case in cases})
    return {
        "schema": "regraft.thresholds/1",
        "rule": f"benign = {MARGIN:g} x largest benign ratio, the worst of {SPARED} architectures left out; "
        f"fault = {GAP:g} x benign",
        "thresholds": [_threshold(*key, [c for c in cases if (c["method"], c["precision"]) == key]) for key in keys],
    }


def _threshold(method: str, precision: str, cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    benign = [case for case in cases if case["side"] == "benign"]
    faults = [case for case in cases if case["side"] == "fault" and not _is_bfloat16(case, precision)]
    limits = _limits(benign)
    architectures = sorted({case["architecture"] for case in benign})
    not_passed, failed = [], []
    for left_out in architectures:
        others = _limits([case for case in benign if case["architecture"] != left_out])
        for case in benign:
            if case["architecture"] == left_out:
                verdict = verdict_of(case, others)
                not_passed += [case] if verdict != "pass" else []
                failed += [case] if verdict == "fail" else []
    verdicts = [verdict_of(case, limits) for case in faults]
    return {
        "method": method,
        "precision": precision,
        **{name: float(f"{value:.3g}") for name, value in limits.items()},
        "benign_cases": len(benign),
        "architectures": len(architectures),
        "false_alarms": len(failed),
        "false_alarm_bound": float(f"{upper_bound(len(failed), len(benign)):.3g}"),
        "false_alarm_bound_by_architecture": float(
            f"{upper_bound(len({c['architecture'] for c in failed}), len(architectures)):.3g}"
        ),
        "left_undecided": len(not_passed) - len(failed),
        "faults": len(faults),
        "faults_failed": verdicts.count("fail"),
        "faults_undecided": verdicts.count("inconclusive"),
        "faults_passed": verdicts.count("pass"),
    }


def _is_bfloat16(case: dict[str, Any], precision: str) -> bool:
    """At the floor of bfloat16, weights rounded to it are no fault."""
    return precision == "bfloat16" and "bfloat16" in case["change"]


def _limits(benign: Sequence[dict[str, Any]]) -> dict[str, float]:
    rms, peak = (MARGIN * _largest(benign, key) for key in ("rms_ratio", "peak_ratio"))
    peak = max(peak, rms)  # one element is no surer a witness than all of them
    return {"benign_rms": rms, "benign_peak": peak, "fault_rms": GAP * rms, "fault_peak": GAP * peak}


def _largest(benign: Sequence[dict[str, Any]], key: str) -> float:
    """The largest ratio of each architecture, the largest of these but for those that may lie beyond."""
    largest: dict[str, float] = {}
    for case in benign:
        largest[case["architecture"]] = max(case[key], largest.get(case["architecture"], 0.0))
    ranked = sorted(largest.values(), reverse=True)
    return ranked[len(ranked) // SPARED]


def verdict_of(case: dict[str, Any], limits: dict[str, float]) -> str:
    if case["rms_ratio"] > limits["fault_rms"] or case["peak_ratio"] > limits["fault_peak"]:
        return "fail"
    below = case["rms_ratio"] <= limits["benign_rms"] and case["peak_ratio"] <= limits["benign_peak"]
    return "pass" if below else "inconclusive"


def upper_bound(events: int, n: int) -> float:
    """One-sided upper confidence bound of a proportion (Clopper and Pearson 1934), by bisection."""
    if n == 0 or events >= n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        at_most = sum(math.comb(n, k) * middle**k * (1 - middle) ** (n - k) for k in range(events + 1))
        low, high = (middle, high) if at_most > 1 - _CONFIDENCE else (low, middle)
    return high


def written_tables(path: Path, table: dict[str, Any], cases: Sequence[dict[str, Any]]) -> None:
    """Put the tables between the marks of the page."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    parts = [_threshold_table(table), _benign_table(cases), _fault_table(cases, table)]
    path.write_text(f"{before}{_BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{_END}{after}", encoding="utf-8")


def _threshold_table(table: dict[str, Any]) -> str:
    lines = [
        (
            "| floor | precision | pass up to RMS / peak | fail beyond RMS / peak | benign cases (architectures) | "
            "false alarms, leave one architecture out | 95 % bound by case / by architecture | "
            "faults found / undecided / missed |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        (
            f"| {row['method']} | {row['precision']} | {row['benign_rms']:g} / {row['benign_peak']:g} | "
            f"{row['fault_rms']:g} / {row['fault_peak']:g} | {row['benign_cases']} ({row['architectures']}) | "
            f"{row['false_alarms']}, and {row['left_undecided']} left undecided | {row['false_alarm_bound']:.1%} / "
            f"{row['false_alarm_bound_by_architecture']:.1%} | {row['faults_failed']} / {row['faults_undecided']} / "
            f"{row['faults_passed']} of {row['faults']} |"
        )
        for row in table["thresholds"]
    ]
    return "\n".join(lines)


def _benign_table(cases: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| floor | precision | conversion | n | RMS ratio: median | largest | peak ratio: median | largest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in sorted({(c["method"], c["precision"], c["change"]) for c in cases if c["side"] == "benign"}):
        rows = [c for c in cases if c["side"] == "benign" and (c["method"], c["precision"], c["change"]) == key]
        rms, peak = [c["rms_ratio"] for c in rows], [c["peak_ratio"] for c in rows]
        lines.append(
            f"| {key[0]} | {key[1]} | {key[2]} | {len(rows)} | {np.median(rms):.2f} | {max(rms):.2f} | "
            f"{np.median(peak):.2f} | {max(peak):.2f} |"
        )
    return "\n".join(lines)


def _fault_table(cases: Sequence[dict[str, Any]], table: dict[str, Any]) -> str:
    limits = {(row["method"], row["precision"]): row for row in table["thresholds"]}
    lines = [
        "| floor | precision | fault | networks × seeds | RMS ratio: smallest | median | failed | undecided | passed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key in sorted({(c["method"], c["precision"], c["change"]) for c in cases if c["side"] == "fault"}):
        rows = [c for c in cases if c["side"] == "fault" and (c["method"], c["precision"], c["change"]) == key]
        found = [verdict_of(c, limits[key[0], key[1]]) for c in rows]
        rms = [c["rms_ratio"] for c in rows]
        lines.append(
            f"| {key[0]} | {key[1]} | {key[2]} | {len(rows)} | {min(rms):.3g} | {np.median(rms):.3g} | "
            f"{found.count('fail')} | {found.count('inconclusive')} | {found.count('pass')} |"
        )
    return "\n".join(lines)
