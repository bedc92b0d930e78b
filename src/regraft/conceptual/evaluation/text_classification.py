"""Text classification: a model with its own head on labelled texts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from regraft.conceptual.evaluation.interface import DataFiles, LoadedModel, Scores
from regraft.errors import Damaged, Unsupported, UsageError
from regraft.record.evidence import JSON

_MAX_ROWS = 1_000_000
_BATCH = 32


class TextClassification:
    """Takes the class with the largest logit; of two classes, the logit of the second over the first is the score.

    The data is a CSV or TSV file with a header. `labels` says which label each logit stands for, in order; without
    it the labels of the data are numbers of logits.
    """

    name = "text-classification"
    metrics = ("accuracy", "f1", "roc_auc")
    scoring: Mapping[str, JSON] = {"text": "text", "label": "label", "labels": None, "file": None, "encoding": "utf-8"}

    def score(self, model: LoadedModel, data: DataFiles, scoring: Mapping[str, JSON]) -> Scores:
        """A decision a text."""
        import numpy as np

        texts, labels = _rows(data, scoring)
        encoder = model.classifier()
        encodings = encoder.tokenize(texts)
        logits: list[np.ndarray] = []
        for start in range(0, len(texts), _BATCH):
            outputs = encoder.model(encoder.feeds(encodings[start : start + _BATCH]))
            found = outputs.get("logits", next(iter(outputs.values())))
            if found.ndim != 2 or found.shape[1] < 2:
                raise Unsupported(f"logits (B, K) are wanted, the output is {found.shape}", where=encoder.model.where)
            logits.append(found.astype(np.float64))
        joined = np.concatenate(logits)  # (N, K)
        targets = _targets(labels, scoring["labels"], joined.shape[1])
        decisions = joined.argmax(axis=1)
        scores = joined[:, 1] - joined[:, 0] if joined.shape[1] == 2 else joined.max(axis=1)
        facts: dict[str, JSON] = {"classes": joined.shape[1]}
        return Scores(targets, scores, decisions, np.arange(len(texts)), "texts", facts)


def _rows(data: DataFiles, scoring: Mapping[str, JSON]) -> tuple[list[str], list[str]]:
    path = data.one(scoring["file"], ".csv", ".tsv")
    reader = csv.DictReader(
        io.StringIO(data.text(path, encoding=scoring["encoding"]), newline=""),
        delimiter="\t" if path.lower().endswith(".tsv") else ",",
    )
    text, label = str(scoring["text"]), str(scoring["label"])
    texts, labels = [], []
    try:
        missing = [name for name in (text, label) if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"no column {missing[0]!r}; there are {', '.join(reader.fieldnames or ())}", where=path)
        for number, row in enumerate(reader, 1):
            if row[text] is None or row[label] is None or number > _MAX_ROWS:
                raise Damaged(f"row {number} is not whole", where=path)
            texts.append(row[text])
            labels.append(row[label])
    except csv.Error as error:
        raise Damaged(f"not a table: {error}", where=path) from error
    if not texts:
        raise Damaged("no rows", where=path)
    return texts, labels


def _targets(labels: list[str], names: JSON, classes: int) -> np.ndarray:  # type: ignore[name-defined]  # noqa: F821
    import numpy as np

    order = [str(name) for name in names] if isinstance(names, list) else [str(number) for number in range(classes)]
    if len(order) != classes or len(set(order)) != classes:
        raise UsageError(f"{len(order)} labels for {classes} logits", hint="scoring: {labels: [negative, positive]}")
    place = {name: number for number, name in enumerate(order)}
    unknown = next((label for label in labels if label not in place), None)
    if unknown is not None:
        raise UsageError(f"the data has the label {unknown!r}, which no logit stands for", hint=", ".join(order[:12]))
    return np.array([place[label] for label in labels])
