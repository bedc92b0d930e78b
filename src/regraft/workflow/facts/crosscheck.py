"""Contradictions that take two files to see: configuration against tensor shapes, names against content."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from regraft.package.formats import Tensor
from regraft.workflow.facts.header import embedding_of
from regraft.workflow.facts.interface import Claim, InspectedFile, Origin
from regraft.workflow.facts.models import Model
from regraft.workflow.facts.plain import clean
from regraft.workflow.facts.settle import Contradiction, place

_LAYER = re.compile(r"^(?P<stack>.*?(?:^|\.)(?:layers?|h|blocks?|layer|block|blk))\.(?P<number>\d{1,4})\.")
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)\s?([MB])(?![A-Za-z0-9])")
_SHARED_LAYERS = frozenset({"albert", "universal-transformer"})
_OTHER_NAMES = {"speech_to_text": "speech2text", "openai-gpt": "openaigpt", "sew-d": "sewd"}
_GENERIC_SUFFIXES = frozenset(
    {".bin", ".dat", ".model", ".data", ".weights", ".ckpt", ".json", ".txt", ".tar", ".zip", ".gz", ""}
)
_ALSO_USUAL = {"pickle": (".joblib", ".sav"), "joblib": (".pkl", ".pickle", ".sav")}
"""An uncompressed joblib file of one object is a plain pickle."""
_STATED_SIZE_TOLERANCE = 0.35
"""Names round: `7B` stands for 6.7 billion, `135M` may leave embeddings out."""


def contradictions_of_model(model: Model, claims: Sequence[Claim]) -> Iterator[Contradiction]:
    """Where the configuration of a model does not fit its tensors, or its names do not fit each other."""
    by_field: dict[str, Claim] = {}
    for claim in claims:
        if claim.origin is not Origin.HEADER:
            by_field.setdefault(claim.field, claim)
    tensors = _tensors(model)
    yield from _type_and_architecture(model, by_field)
    yield from _width(model, by_field, tensors)
    yield from _depth(model, by_field, tensors)
    yield from _tokens(model, claims)
    yield from _lengths(model, claims)
    yield from _stated_size(model, by_field)


def contradiction_of_name(file: InspectedFile) -> Contradiction | None:
    """A suffix that promises another format than the content has."""
    suffix = file.suffix
    if file.format is None or not file.is_model or not file.suffixes:
        return None
    if (
        suffix in _GENERIC_SUFFIXES
        or suffix in (*file.suffixes, *_ALSO_USUAL.get(file.format, ()))
        or any(file.basename.lower().endswith(s) for s in file.suffixes)
    ):
        return None
    claims = (
        Claim("format", file.format, Origin.HEADER, file.path),
        Claim("format", suffix, Origin.FILE_NAME, file.path),
    )
    usual = ", ".join(file.suffixes[:4])
    return Contradiction(
        "suffix", f"the content is {file.title} (usually {usual}), the name ends in {clean(suffix[:20])}", claims
    )


def _tensors(model: Model) -> tuple[Tensor, ...]:
    if model.is_sharded:
        return tuple(t for f in model.files for t in (f.description and f.description.tensors) or ())
    for file in model.files:
        if file.description is not None and file.description.tensors:
            return file.description.tensors
    return ()


def _type_and_architecture(model: Model, said: dict[str, Claim]) -> Iterator[Contradiction]:
    kind, architecture = said.get("model_type"), said.get("architecture")
    if kind is None or architecture is None:
        return
    known = _OTHER_NAMES.get(str(kind.value), str(kind.value))
    plain = re.sub(r"[^a-z0-9]", "", known.lower())
    if plain and plain not in re.sub(r"[^a-z0-9]", "", str(architecture.value).lower()):
        message = f"model_type {kind.value} does not belong to the architecture {architecture.value}"
        yield Contradiction("model_type", message, (kind, architecture), model.name)


def _width(model: Model, said: dict[str, Claim], tensors: tuple[Tensor, ...]) -> Iterator[Contradiction]:
    embedding = embedding_of(tensors)
    claim = said.get("embedding_size") or said.get("hidden_size")
    if embedding is None or claim is None or claim.value == embedding.shape[1]:
        return
    yield _against(
        model, claim, f"the embedding {clean(embedding.name)} is {embedding.shape[1]} wide", embedding.shape[1]
    )


def _depth(model: Model, said: dict[str, Claim], tensors: tuple[Tensor, ...]) -> Iterator[Contradiction]:
    claim, kind = said.get("layers"), said.get("model_type")
    if claim is None or (kind is not None and str(kind.value) in _SHARED_LAYERS):
        return
    stacks: dict[str, set[int]] = {}
    for tensor in tensors:
        match = _LAYER.match(tensor.name)
        if match:
            stacks.setdefault(match["stack"], set()).add(int(match["number"]))
    if len(stacks) != 1:
        return
    (stack, numbers), *_ = stacks.items()
    if len(numbers) != claim.value:
        yield _against(model, claim, f"tensor names hold {len(numbers)} layers ({clean(stack[:60])}.N)", len(numbers))


def _tokens(model: Model, claims: Sequence[Claim]) -> Iterator[Contradiction]:
    tokens = [c for c in claims if c.field == "vocabulary_tokens" and isinstance(c.value, int)]
    rows = next((c for c in claims if c.field == "vocabulary" and isinstance(c.value, int)), None)
    if not tokens or rows is None:
        return
    most = max(tokens, key=lambda c: int(str(c.value)))
    if int(str(most.value)) > int(str(rows.value)):
        message = (
            f"the tokenizer knows {most.value} tokens ({place(most)}), the model only {rows.value} ({place(rows)})"
        )
        yield Contradiction("vocabulary", message, (rows, most), model.name)


def _lengths(model: Model, claims: Sequence[Claim]) -> Iterator[Contradiction]:
    context = next((c for c in claims if c.field == "context_length" and isinstance(c.value, int)), None)
    longest = next((c for c in claims if c.field == "truncation_length" and isinstance(c.value, int)), None)
    if context is not None and longest is not None and int(str(longest.value)) > int(str(context.value)):
        message = (
            f"inputs are cut at {longest.value} tokens ({place(longest)}), the model has {context.value} positions"
        )
        yield Contradiction("context_length", message, (context, longest), model.name)


def _stated_size(model: Model, said: dict[str, Claim]) -> Iterator[Contradiction]:
    """A size in a file's name (`135M`, `7B`) against the parameters that were counted."""
    counted = model.parameters
    if not counted:
        return
    for file in model.files:
        match = _SIZE.search(file.basename.replace("_", "-"))
        if match is None or file.parameters is None or match[1]:
            continue
        stated = float(match[2]) * (1e6 if match[3] == "M" else 1e9)
        if stated and abs(counted - stated) / stated > _STATED_SIZE_TOLERANCE:
            claims = (
                Claim("parameters", counted, Origin.HEADER, file.path),
                Claim("parameters", int(stated), Origin.FILE_NAME, file.path),
            )
            message = f"the name says {match[2]}{match[3]} parameters, the header counts {counted:,}"
            yield Contradiction("parameters", message, claims, model.name)
            return


def _against(model: Model, claim: Claim, header: str, value: int) -> Contradiction:
    message = f"{claim.key or claim.field} is {claim.value} in {place(claim)}, but {header}"
    counted = Claim(claim.field, value, Origin.HEADER, model.files[0].path)
    return Contradiction(claim.field, message, (counted, claim), model.name)
