"""Sentence similarity: do the cosines between vectors follow what people said?"""

from __future__ import annotations

import math
from collections.abc import Mapping

from regraft.conceptual.evaluation.interface import DataFiles, LoadedModel, Scores
from regraft.errors import Damaged, UsageError
from regraft.record.evidence import JSON

_MAX_PAIRS = 1_000_000


class SentenceSimilarity:
    """Correlates the cosine of two texts' vectors with human ratings.

    The data is a table (`first TAB second TAB rating`, comments begin with #); or, with `matrix`, a file of
    texts, one a line, and a symmetric matrix of ratings, of which the part above the diagonal counts.
    """

    name = "sentence-similarity"
    metrics = ("spearman", "pearson")
    scoring: Mapping[str, JSON] = {
        "separator": "\t",
        "header": False,
        "texts": None,
        "matrix": None,
        "lowercase": False,
        "encoding": "utf-8",
    }

    def score(self, model: LoadedModel, data: DataFiles, scoring: Mapping[str, JSON]) -> Scores:
        """A cosine a pair."""
        import numpy as np

        pairs = _matrix_pairs(data, scoring) if scoring["matrix"] is not None else _table_pairs(data, scoring)
        if len(pairs) < 2:
            raise Damaged("fewer than two pairs", where=str(data.package.ref))
        texts = list(dict.fromkeys(text for first, second, _ in pairs for text in (first, second)))
        place = {text: number for number, text in enumerate(texts)}
        given = [text.lower() for text in texts] if scoring["lowercase"] else texts
        vectors = model.encoder().encode(given).astype(np.float64)  # (N, D)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        first = np.array([place[one] for one, _, _ in pairs])
        second = np.array([place[other] for _, other, _ in pairs])
        cosines = np.einsum("nd,nd->n", vectors[first], vectors[second])
        ratings = np.array([rating for _, _, rating in pairs])
        facts: dict[str, JSON] = {"texts": len(texts)}
        return Scores(ratings, cosines, None, first, "pairs", facts)


def _table_pairs(data: DataFiles, scoring: Mapping[str, JSON]) -> list[tuple[str, str, float]]:
    separator = scoring["separator"]
    if not isinstance(separator, str) or not separator:
        raise UsageError("the separator of the table is empty")
    path = data.one(scoring["texts"], ".tsv", ".txt", ".csv")
    lines = [
        line
        for line in data.text(path, encoding=scoring["encoding"]).splitlines()
        if line.strip() and not line.startswith("#")
    ]
    pairs = []
    for number, line in enumerate(lines[bool(scoring["header"]) :], 1):
        fields = line.split(separator)
        if len(fields) < 3 or number > _MAX_PAIRS:
            raise Damaged(f"row {number} has {len(fields)} columns, three are wanted", where=path)
        pairs.append((fields[0].strip(), fields[1].strip(), _number(fields[2], f"row {number}", path)))
    return pairs


def _matrix_pairs(data: DataFiles, scoring: Mapping[str, JSON]) -> list[tuple[str, str, float]]:
    content = data.text(data.one(scoring["texts"], ".txt"), encoding=scoring["encoding"])
    texts = [line for line in content.splitlines() if line.strip()]
    path = data.one(scoring["matrix"], ".txt")
    rows = [line.split() for line in data.text(path).splitlines() if line.strip()]
    size = len(texts)
    if len(rows) != size or any(len(row) != size for row in rows) or size * size > 2 * _MAX_PAIRS:
        raise Damaged(f"{size} texts, and a matrix of {len(rows)} rows", where=path)
    return [
        (texts[i], texts[j], _number(rows[i][j], f"row {i + 1}", path)) for i in range(size) for j in range(i + 1, size)
    ]


def _number(text: str, place: str, path: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Damaged(f"{place}: {text[:40]!r} is no rating", where=path)
    return number
