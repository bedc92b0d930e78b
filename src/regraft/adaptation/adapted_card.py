"""The card of an adapted package: what it is, how good it was measured to be, whose licence it is under."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.adaptation.data import LabelledData
from regraft.adaptation.features import Examined
from regraft.adaptation.fusing import Licence
from regraft.adaptation.intervals import Interval

if TYPE_CHECKING:
    from regraft.adaptation.adapt import Scores

_MAX_LABELS = 50


def adapted_card(
    examined: Examined, data: LabelledData, scores: Scores, licences: Sequence[Licence], *, reference: str, name: str
) -> str:
    """README.md with front matter as model hubs read it.

    Args:
        reference: of the encoder's package, for strangers.
        name: of the data.
    """
    spdx = sorted({licence.spdx for licence in licences if licence.spdx})
    front = [
        "---",
        f"license: {spdx[0].lower() if len(spdx) == 1 else 'other'}",
        f"pipeline_tag: {data.task}",
        "library_name: regraft",
        f"base_model: {json.dumps(reference)}",
        "metrics: [accuracy]",
        "---",
    ]
    kind = "A text" if data.images is None else "An image"
    labels = ", ".join(data.label_names[:_MAX_LABELS])
    lines = [
        *front,
        "",
        f"# {examined.subject.name} for {name}",
        "",
        f"{kind} classifier ({labels}): the encoder of {reference}, unchanged, and a linear head on its features.",
        "",
        "| measured on held-out rows | value | 95 % interval | n |",
        "|---|---|---|---|",
        _row("accuracy", scores.accuracy),
        _row(f"accuracy of the baseline ({scores.baseline_name})", scores.baseline),
        _row("gain over the baseline", scores.gain.difference),
        *(_row(f"recall of {label}", recall) for label, recall in list(scores.recalls.items())[:_MAX_LABELS]),
        "",
        _quality(scores),
        "",
        _scope(data),
        "",
        "## Licence",
        "",
        _licence_text(licences),
        "",
    ]
    return "\n".join(lines)


def _quality(scores: Scores) -> str:
    return (
        f"Exact McNemar test against the baseline: p = {scores.gain.p_value:.2g}. "
        f"Expected calibration error {scores.calibration:.3f}, log loss {scores.log_loss:.3f}; "
        f"the logits were divided by {scores.temperature:.3g}, fitted on out-of-fold rows."
    )


def _scope(data: LabelledData) -> str:
    others = "sources of text" if data.images is None else "kinds of pictures"
    return (
        f"Learnt from at most {data.spec.learn} labelled rows, judged on at most {data.spec.held_out} others; "
        "duplicates were removed before the rows were split. "
        f"The numbers hold for rows like these, not for other {others}."
    )


def _row(what: str, interval: Interval) -> str:
    return f"| {what} | {interval.value:.4f} | [{interval.low:.4f}, {interval.high:.4f}] | {interval.n} |"


def _licence_text(licences: Sequence[Licence]) -> str:
    if not licences:
        return "The package that this was made from holds no licence text: what may be done with it is not known."
    named = ", ".join(licence.spdx or f"not recognised ({licence.path})" for licence in licences)
    return f"The encoder's licence carries over: {named}. Its text is in `licenses/`. The labelled rows have their own."
