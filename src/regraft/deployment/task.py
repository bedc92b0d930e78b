"""Labelled rows of the task: how many decisions a candidate changes, and whether that costs accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.int8 import MARGIN, DecisionTest, decision_test
from regraft.compare.judge import Judgement
from regraft.deployment.trial import text_encoder
from regraft.errors import UsageError
from regraft.progress import progress
from regraft.record.evidence import Draft, Finding, Severity, Subject, Verdict
from regraft.runtime.feeding import feeds_for
from regraft.runtime.text_model import takes_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.deployment.loading import Opened
    from regraft.runtime.interface import Array, Model

ROWS_A_PASS = 32
_SAMPLE = 16
_VERDICTS = {
    Judgement.WITHIN: (Verdict.PASS, Severity.INFO),
    Judgement.BEYOND: (Verdict.FAIL, Severity.HIGH),
    Judgement.UNDECIDED: (Verdict.INCONCLUSIVE, Severity.UNKNOWN),
}


class TaskData(msgspec.Struct, frozen=True, kw_only=True):
    """Rows with their true classes.

    Attributes:
        rows: texts for a text package; else arrays by the reference's names, whose first axis is the row.
        labels: (N,) which column of the scores is right.
        margin: accuracy that the candidate may lose, as a share; stated before looking.
        materials: where the rows are from, as evidence names it.
        note: how labels were taken for columns, where that was not plain; empty otherwise.
    """

    rows: Sequence[str] | Mapping[str, Array]
    labels: NDArray[np.integer]
    margin: float = MARGIN
    materials: tuple[Subject, ...] = ()
    note: str = ""

    def sample(self) -> list[str] | dict[str, Array]:
        """A few rows, to compare numbers on."""
        if isinstance(self.rows, Mapping):
            return {name: value[:_SAMPLE] if value.ndim else value for name, value in self.rows.items()}
        return list(self.rows[:_SAMPLE])


def compare_decisions(
    draft: Draft,
    reference: Opened,
    candidate: Model,
    task: TaskData,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    *,
    decides: bool,
) -> Verdict:
    """Run both on every row, and report flips, accuracies and McNemar's test.

    Args:
        draft: takes the findings and measurements.
        reference: with its package, which encodes texts.
        candidate: the model in question.
        task: the rows.
        inputs, outputs: reference's → candidate's.
        decides: nothing else judges this candidate, so that the outcome is the verdict; else it is told alone.
    Raises:
        UsageError: no output is a table of scores, or the labels are no columns of it.
        Unsupported, BadFeeds: what the models raise.
    """
    assert reference.model is not None
    name, ours, theirs = _scores(reference, candidate, task, inputs, outputs)
    columns = ours.shape[1]
    if task.labels.min() < 0 or task.labels.max() >= columns:
        raise UsageError(
            f"the labels go from {task.labels.min()} to {task.labels.max()}, output {name} has {columns} columns",
            hint="labels are numbers of columns, from 0; --name-label names them as the model does",
        )
    test = decision_test(ours, theirs, labels=task.labels, margin=task.margin)
    verdict, severity = _VERDICTS[test.judgement]
    _report(draft, name, test, severity if decides else Severity.INFO, task.note)
    return verdict


def _scores(
    reference: Opened, candidate: Model, task: TaskData, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    """Name of the first output that is a table of scores, and what both have there, (N, K)."""
    import numpy as np

    assert reference.model is not None
    ours: list[Array] = []
    theirs: list[Array] = []
    name = ""
    with progress("comparing decisions", total=len(task.labels), unit="rows") as advance:
        for count, feeds in _batches(reference, candidate, task, inputs):
            found = reference.model(feeds_for(reference.model, feeds))
            given = {inputs[one]: value for one, value in feeds.items() if one in inputs}
            other = candidate(feeds_for(candidate, given))
            name = name or _table(found, outputs)
            ours.append(found[name][:count])
            theirs.append(other[outputs[name]][:count])
            advance(count)
    return name, np.concatenate(ours).astype(np.float64), np.concatenate(theirs).astype(np.float64)


def _table(found: Mapping[str, Array], outputs: Mapping[str, str]) -> str:
    for name in outputs:
        value = found[name]
        if value.dtype.kind in "fiu" and value.ndim == 2 and value.shape[1] > 1:
            return name
    shapes = ", ".join(f"{name} {found[name].shape}" for name in outputs)
    raise UsageError(f"no output is a table of scores, a row of classes each: {shapes}")


def _batches(
    reference: Opened, candidate: Model, task: TaskData, inputs: Mapping[str, str]
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Rows in passes: how many are meant, and the feeds, which are filled up where a model fixes the number of rows."""
    import numpy as np

    assert reference.model is not None
    n = len(task.labels)
    size = _fixed_rows(reference.model, candidate, inputs) or min(ROWS_A_PASS, n)
    is_text = takes_texts(reference.model)
    encoder = None if isinstance(task.rows, Mapping) or is_text else text_encoder(reference)
    for start in range(0, n, size):
        places = np.minimum(np.arange(start, start + size), n - 1)  # the last row again, where too few are left
        count = min(size, n - start)
        if isinstance(task.rows, Mapping):
            yield count, {name: value[places] if value.ndim else value for name, value in task.rows.items()}
        elif encoder is not None:
            yield count, dict(encoder.feeds(encoder.tokenize([task.rows[place] for place in places])))
        else:
            name = reference.model.signature.inputs[0].name
            yield count, {name: np.array([task.rows[place] for place in places], dtype=np.str_)}


def _fixed_rows(reference: Model, candidate: Model, inputs: Mapping[str, str]) -> int | None:
    ports = [port for port in reference.signature.inputs if port.name in inputs]
    ports += [port for port in candidate.signature.inputs if port.name in inputs.values()]
    return next((port.shape[0] for port in ports if port.shape and isinstance(port.shape[0], int)), None)


def _report(draft: Draft, name: str, test: DecisionTest, severity: Severity, note: str) -> None:
    assert test.accuracy is not None
    assert test.candidate_accuracy is not None
    assert test.drop is not None
    of = {"output": name}
    draft.measure("decisions_changed", test.flips.value, "1", low=test.flips.low, high=test.flips.high, n=test.n, of=of)
    for who, one in (("reference", test.accuracy), ("candidate", test.candidate_accuracy)):
        draft.measure("accuracy", one.value, "1", low=one.low, high=one.high, n=test.n, of={**of, "model": who})
    draft.measure("accuracy_drop", test.drop.value, "1", low=test.drop.low, high=test.drop.high, n=test.n, of=of)
    p_value = test.p_value if test.p_value is not None else 1.0
    draft.measure("mcnemar_p", p_value, "1", n=test.n, of=of)
    draft.find(
        Finding(
            "decisions.compared",
            severity,
            f"{test.reason}; {test.flips.value:.1%} of the decisions differ, McNemar's p is {p_value:.2g}"
            + (f"; {note}" if note else ""),
            data={"judgement": str(test.judgement), "margin": test.margin},
            fix="label more rows, or accept more with --margin" if test.judgement is Judgement.UNDECIDED else None,
        )
    )
