"""All claims of a package brought to the model they are about, and settled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from regraft.package.formats import Role
from regraft.workflow.facts.card import claims_from_card, is_card_name
from regraft.workflow.facts.config import claims_from_config
from regraft.workflow.facts.crosscheck import contradiction_of_name, contradictions_of_model
from regraft.workflow.facts.examine import is_licence_name
from regraft.workflow.facts.header import claims_from_header
from regraft.workflow.facts.index import claims_from_index, is_index_file
from regraft.workflow.facts.interface import Claim, InspectedFile
from regraft.workflow.facts.licence import claims_from_licence
from regraft.workflow.facts.models import Model, group_models
from regraft.workflow.facts.settle import FIELDS, Contradiction, Fact, settle, unknown_facts

_MAX_NAMED = 3
_LONG = 60
_POOLED = frozenset({"framework", "producer", "dtype", "tokenizer"})
_PACKAGE_FIELDS = frozenset(
    ("summary", "libraries", "licence", "licences_inside", "language", "datasets", "claimed_metrics")
)
_MODEL_FIELDS = frozenset(field.name for field in FIELDS) - _PACKAGE_FIELDS


class Collection(msgspec.Struct, frozen=True):
    """Models, facts (in the order of FIELDS) and contradictions of a package.

    Attributes:
        per_model: facts by field, for each model in the order of `models`.
    """

    models: list[Model]
    per_model: list[dict[str, Fact]]
    facts: list[Fact]
    contradictions: list[Contradiction]


def collect(files: Sequence[InspectedFile]) -> Collection:
    """What is claimed about a package and each of its models, and where claims contradict each other."""
    models = group_models(files)
    package_claims = list(_package_claims(files))
    contradictions = [found for file in files if (found := contradiction_of_name(file)) is not None]
    per_model: list[dict[str, Fact]] = []
    for model in models:
        claims = list(_model_claims(model, models, files))
        package_claims += [claim for claim in claims if claim.field not in _MODEL_FIELDS]
        facts, disagreements = settle([c for c in claims if c.field in _MODEL_FIELDS], of=model.name)
        contradictions += [*disagreements, *contradictions_of_model(model, claims)]
        per_model.append(_with_total({fact.field: fact for fact in facts}, model))
    general, disagreements = settle(_unique(package_claims))
    contradictions += disagreements
    known = {fact.field: fact for fact in general} | _merged(per_model, models)
    ordered = [known[field.name] for field in FIELDS if field.name in known]
    return Collection(models, per_model, [*ordered, *unknown_facts(known)], _unique_contradictions(contradictions))


def _package_claims(files: Sequence[InspectedFile]) -> Iterator[Claim]:
    for file in files:
        inner = file.path.rsplit("!", 1)[-1]
        if is_index_file(inner):
            yield from claims_from_index(file)
        elif is_card_name(file.basename):
            for claim in claims_from_card(file):
                if claim.field not in _MODEL_FIELDS:
                    yield claim
        elif is_licence_name(file.basename) or (file.role is Role.LICENCE and file.text is not None):
            yield from claims_from_licence(file)


def _model_claims(model: Model, models: Sequence[Model], files: Sequence[InspectedFile]) -> Iterator[Claim]:
    """Claims of the model's own files, of the configuration nearest above them, and of a card that covers it."""
    for file in model.files:
        yield from claims_from_header(file)
    nearest: dict[str, InspectedFile] = {}
    for file in files:
        covers = (
            file.folder == model.folder
            or not file.folder
            or model.folder.startswith((file.folder + "/", file.folder + "!"))
        )
        if covers and not file.is_model:
            seen = nearest.get(file.basename)
            if seen is None or len(file.folder) > len(seen.folder):
                nearest[file.basename] = file
    for file in nearest.values():
        if is_card_name(file.basename):
            yield from (claim for claim in claims_from_card(file) if claim.field in _MODEL_FIELDS)
        else:
            yield from claims_from_config(file)


def _with_total(facts: dict[str, Fact], model: Model) -> dict[str, Fact]:
    """Parameters of the model in place of those of its first file; operators of its first graph only."""
    fact = facts.get("parameters")
    if fact is not None and model.parameters is not None:
        total = model.parameters
        facts["parameters"] = msgspec.structs.replace(fact, value=total if total < 1 << 63 else None, text=f"{total:,}")
    dtype = facts.get("dtype")
    if dtype is not None and "≠" not in dtype.text:
        kinds = list(dict.fromkeys(d for file in model.files for d in file.dtypes))
        if kinds:
            facts["dtype"] = msgspec.structs.replace(dtype, text=", ".join(kinds[:6]))
    return facts


def _merged(per_model: Sequence[dict[str, Fact]], models: Sequence[Model]) -> dict[str, Fact]:
    """One fact a field for the package: the common value, or each model's own."""
    if len(models) == 1:
        return per_model[0]
    merged: dict[str, Fact] = {}
    for field in FIELDS:
        said = [
            (model.name, facts[field.name])
            for model, facts in zip(models, per_model, strict=True)
            if field.name in facts
        ]
        if not said:
            continue
        provenance = tuple(claim for _, fact in said for claim in fact.provenance)
        texts = list(dict.fromkeys(fact.text for _, fact in said))
        if len(texts) == 1 and len(said) == len(models):
            merged[field.name] = msgspec.structs.replace(said[0][1], provenance=provenance, of=None)
            continue
        value = {name: fact.value for name, fact in said[:200]}
        merged[field.name] = Fact(field.name, value, _merged_text(field.name, said), provenance, field.could_say)
    return merged


def _merged_text(field: str, said: Sequence[tuple[str, Fact]]) -> str:
    """What several models say: as one set where it does not matter who, else by name."""
    if field in _POOLED:
        return ", ".join(dict.fromkeys(part for _, fact in said for part in re.split(r"[;,] ", fact.text)))
    named = said[:1] if any(len(fact.text) > _LONG for _, fact in said) else said[:_MAX_NAMED]
    left = len(said) - len(named)
    more = f"; and {left} more {'model' if left == 1 else 'models'}" if left else ""
    return "; ".join(f"{name}: {fact.text}" for name, fact in named) + more


def _unique(claims: Sequence[Claim]) -> list[Claim]:
    seen: dict[tuple[str, str, str, str | None], Claim] = {}
    for claim in claims:
        seen.setdefault((claim.field, claim.origin, claim.file, f"{claim.key}={claim.value}"), claim)
    return list(seen.values())


def _unique_contradictions(found: Sequence[Contradiction]) -> list[Contradiction]:
    return list({(c.kind, c.message, c.of): c for c in found}.values())
