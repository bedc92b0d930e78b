"""Claims of a model card: the YAML block at the head of a README."""

from __future__ import annotations

from collections.abc import Iterator

from regraft.package.card import parse_model_card
from regraft.workflow.facts.interface import Claim, InspectedFile, Origin
from regraft.workflow.facts.licence import licence_value
from regraft.workflow.facts.plain import plain

_MAX_LIST = 60


def is_card_name(basename: str) -> bool:
    """Whether a file of this name is where a model card is looked for."""
    return basename.lower() in ("readme.md", "model_card.md", "modelcard.md", "readme.markdown")


def claims_from_card(file: InspectedFile) -> Iterator[Claim]:
    """What a model card says in its YAML block; a block that cannot be read says nothing."""
    card = parse_model_card(file.text or "")
    value = card.licence_spdx or licence_value(card.licence_name if card.licence == "other" else card.licence)
    if value:
        yield _claim(file, "licence", value, "license", said=card.licence)
    for field, text, key in (("task", card.pipeline_tag, "pipeline_tag"), ("framework", card.library, "library_name")):
        if text:
            yield _claim(file, field, text, key)
    for field, texts, key in (
        ("language", card.languages, "language"),
        ("datasets", card.datasets, "datasets"),
        ("base_model", card.base_models, "base_model"),
    ):
        if texts:
            yield _claim(
                file, field, texts[0] if len(texts) == 1 and field == "base_model" else list(texts[:_MAX_LIST]), key
            )
    metrics = [
        {
            "task": m.task,
            "dataset": m.dataset,
            "metric": m.metric_name or m.metric,
            "value": m.value_text,
            "verified": m.is_verified,
        }
        for m in card.claims[:_MAX_LIST]
    ]
    if metrics:
        yield _claim(file, "claimed_metrics", metrics, "model-index")


def _claim(file: InspectedFile, field: str, value: object, key: str, *, said: str | None = None) -> Claim:
    return Claim(field, plain(value), Origin.CARD, file.path, key, said)
