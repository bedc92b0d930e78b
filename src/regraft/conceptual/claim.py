"""A claim: a published number with everything that is needed to look whether it holds."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import msgspec

from regraft.errors import UsageError
from regraft.package.reference import ModelRef, parse_reference
from regraft.record.bounded_yaml import Place
from regraft.record.digest import Digest, digest_bytes
from regraft.record.document import Document, finite, kind_of, nearest, parse_document, read_document, shown
from regraft.record.evidence import JSON

SCHEMA = "regraft.claim/1"
_NUMBER = re.compile(r"\s*([-+]?(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15}))\s*(%?)\s*", re.ASCII)
_KEYS = (
    "schema", "name", "model", "runtime", "data", "evaluation", "metric", "value", "uncertainty", "margin", "sample",
    "scoring", "conditions", "source",
)  # fmt: skip
SAMPLES = ("same", "other")


class Claim(msgspec.Struct, frozen=True):
    """A published number about a fixed model.

    Attributes:
        digest: of the file.
        model, data: what to evaluate, and on what.
        evaluation: which of `conceptual.evaluation` makes scores out of them.
        printed: the value as it was printed; its decimals say how far it was rounded.
        value: the same as a number; percentages as shares.
        half_digit: half of its last printed digit.
        uncertainty: as printed behind ±, in the metric's unit; plays a part only on another sample.
        margin: declared by the claim's author in place of the default.
        is_same_sample: the data is the very data that the number was measured on.
        scoring: choices of the evaluation, checked by it.
        conditions: what else the source says about how the number came about.
        source: where it was published.
    """

    name: str
    digest: Digest
    model: ModelRef
    data: ModelRef
    evaluation: str
    metric: str
    printed: str
    value: float
    half_digit: float
    runtime: str | None = None
    uncertainty: float | None = None
    margin: float | None = None
    is_same_sample: bool = True
    scoring: dict[str, JSON] = {}
    conditions: dict[str, JSON] = {}
    source: dict[str, JSON] = {}


def read_claim(path: Path, *, from_user: bool = False) -> Claim:
    """Read a claim file. Paths in it are relative to its folder.

    Args:
        from_user: the user wrote it or names it on the command line, so that it may name code (`py:`).
    Raises:
        UsageError: it cannot be understood; `where` is file:line.
        UntrustedReference: it names code, and does not come from the user.
        NotFound, AccessDenied: it cannot be read.
    """
    data = read_document(path, what="claim")
    return parse_claim(data, name=str(path), folder=path.parent, from_user=from_user)


def parse_claim(data: bytes, *, name: str = "claim", folder: Path | None = None, from_user: bool = False) -> Claim:
    """Parse the bytes of a claim file.

        schema: regraft.claim/1
        model: pypi://silero-vad==6.2.3#silero_vad/data/silero_vad.onnx
        data: pypi://pyannote-audio==4.0.7#pyannote/audio/sample
        evaluation: voice-activity
        metric: roc_auc
        value: "0.9958"
        scoring: {label: last}
        source: {url: https://…, page: 3}

    Args:
        name: of the file, for messages.
        folder: that relative paths start from; None for the current one.
        from_user: as `read_claim`.
    Raises:
        UsageError: unknown key, wrong type, a value without its printed form.
        UntrustedReference: as `read_claim`.
    """
    document = parse_document(data, name=name, error=UsageError, example=_EXAMPLE)
    top = document.mapping(document.value, (), _KEYS)
    if top.get("schema") != SCHEMA:
        document.refuse(f"the schema is not {SCHEMA!r}", ("schema",), hint=f"schema: {SCHEMA}")
    for key in ("model", "data", "evaluation", "metric", "value"):
        if key not in top:
            document.refuse(f"{key} is missing", (), hint=_EXAMPLE)
    printed, value, half_digit = _printed(document, top["value"], ("value",))
    sample = top.get("sample", "same")
    if sample not in SAMPLES:
        document.refuse(f"sample is {shown(sample)}", ("sample",), hint=nearest(str(sample), SAMPLES))
    return Claim(
        name=document.text(top["name"], ("name",)) if "name" in top else Path(name).stem,
        digest=digest_bytes(data),
        model=_reference(document, top["model"], ("model",), folder, from_user=from_user),
        data=_reference(document, top["data"], ("data",), folder, from_user=False),
        evaluation=document.text(top["evaluation"], ("evaluation",)),
        metric=document.text(top["metric"], ("metric",)),
        printed=printed,
        value=value,
        half_digit=half_digit,
        runtime=document.text(top["runtime"], ("runtime",)) if "runtime" in top else None,
        uncertainty=_size(document, top, "uncertainty"),
        margin=_size(document, top, "margin"),
        is_same_sample=sample == "same",
        scoring=_mapping(document, top, "scoring"),
        conditions=_mapping(document, top, "conditions"),
        source=_mapping(document, top, "source"),
    )


def _printed(document: Document, value: JSON, place: Place) -> tuple[str, float, float]:
    """The printed form, the number, and half of its last digit."""
    key = place[-1]
    if isinstance(value, int | float) and not isinstance(value, bool):
        message = f"{key} is a bare number: its decimals say how far it was rounded, and YAML drops closing zeros"
        document.refuse(message, place, hint=f'write it as printed, in quotes: {key}: "{value}"')
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    number = finite(match[1]) if match else None
    if match is None or number is None:
        document.refuse(f"{shown(value)} is not a number as printed", place, hint='for example "0.982" or "98.2 %"')
    exact = Decimal(match[1])
    scale = Decimal("0.01") if match[2] else Decimal(1)
    exponent = exact.as_tuple().exponent
    assert isinstance(exponent, int)
    half_digit = Decimal((0, (5,), exponent - 1)) * scale
    assert isinstance(value, str)
    return value.strip(), float(exact * scale), float(half_digit)


def _size(document: Document, top: dict[str, JSON], key: str) -> float | None:
    if key not in top:
        return None
    _, number, _ = _printed(document, top[key], (key,))
    if number < 0:
        document.refuse(f"{key} is below zero", (key,))
    return number


def _reference(document: Document, value: JSON, place: Place, folder: Path | None, *, from_user: bool) -> ModelRef:
    ref = parse_reference(document.text(value, place), from_user=from_user)
    if ref.scheme == "path" and folder is not None and not Path(ref.location).is_absolute():
        return msgspec.structs.replace(ref, location=str(folder / ref.location))
    return ref


def _mapping(document: Document, top: dict[str, JSON], key: str) -> dict[str, JSON]:
    value = top.get(key, {})
    if not isinstance(value, dict):
        document.refuse(f"{key} is {kind_of(value)}, not a mapping", (key,), hint=f"{key}: {{name: value}}")
    return value


_EXAMPLE = (
    f"schema: {SCHEMA} with model, data, evaluation, metric and the value as it was printed, in quotes; "
    "regraft reproduce --help shows one"
)
