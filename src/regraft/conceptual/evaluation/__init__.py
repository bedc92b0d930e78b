"""The family of evaluations: how a claim's number is measured. One module a member."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from regraft.conceptual.evaluation.interface import Evaluation
from regraft.errors import UsageError
from regraft.record.document import nearest
from regraft.record.evidence import JSON

_MEMBERS: dict[str, str] = {
    "voice-activity": "voice_activity:VoiceActivity",
    "sentence-similarity": "sentence_similarity:SentenceSimilarity",
    "text-classification": "text_classification:TextClassification",
}
"""Name → `module:Class`."""


def open_evaluation(name: str) -> Evaluation:
    """The evaluation of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in _MEMBERS:
        raise UsageError(f"there is no evaluation {name!r}", hint=nearest(name, _MEMBERS))
    module, member = _MEMBERS[name].split(":")
    evaluation: Evaluation = getattr(importlib.import_module(f"{__name__}.{module}"), member)()
    return evaluation


def settled_scoring(evaluation: Evaluation, chosen: Mapping[str, JSON]) -> dict[str, JSON]:
    """The choices of a claim over the defaults of its evaluation.

    Raises:
        UsageError: an unknown choice, or one of another type.
    """
    for key, value in chosen.items():
        if key not in evaluation.scoring:
            raise UsageError(f"unknown scoring {key!r} for {evaluation.name}", hint=nearest(key, evaluation.scoring))
        default = evaluation.scoring[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number if isinstance(default, float) else isinstance(value, type(default))
        if default is not None and not fits:
            raise UsageError(f"scoring {key} is {value!r}, of another type than its default {default!r}")
    return {**evaluation.scoring, **chosen}


__all__ = ["Evaluation", "open_evaluation", "settled_scoring"]
