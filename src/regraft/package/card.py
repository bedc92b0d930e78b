"""Cards: what a publisher says about a package. Model cards, wheel metadata, package.json.

Everything here is a claim by whoever wrote the file. Wrong types are passed over and listed as problems.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from regraft.package.licence import normalise_licence
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.record.bounded_yaml import MAX_YAML_BYTES, YamlError, parse_yaml

_MAX_TEXT_CHARS = 2000
_MAX_LIST = 1000
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


class ClaimedMetric(msgspec.Struct, frozen=True):
    """One published number, from a `model-index`.

    Attributes:
        value: None when it is not a finite number; `value_text` is what was written.
        is_verified: the hub's own evaluation reproduced it.
    """

    metric: str
    value: float | None
    value_text: str
    model: str = ""
    task: str = ""
    dataset: str = ""
    dataset_config: str = ""
    dataset_split: str = ""
    dataset_revision: str = ""
    metric_name: str = ""
    is_verified: bool = False
    source: str = ""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a card states; empty where it says nothing.

    Attributes:
        kind: `model-card`, `wheel-metadata` or `npm-package`.
        licence: as it is written; `licence_spdx` what that means, None when it is not clear.
        base_model_relation: `finetune`, `adapter`, `quantized`, `merge`, … as stated.
        urls: label → address.
        problems: what could not be read, in a sentence each.
    """

    kind: str
    name: str = ""
    version: str = ""
    summary: str = ""
    licence: str = ""
    licence_spdx: str | None = None
    licence_name: str = ""
    licence_link: str = ""
    base_models: tuple[str, ...] = ()
    base_model_relation: str = ""
    tags: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    library: str = ""
    pipeline_tag: str = ""
    claims: tuple[ClaimedMetric, ...] = ()
    urls: dict[str, str] = {}
    problems: tuple[str, ...] = ()


def split_front_matter(text: str) -> tuple[str | None, str]:
    """The YAML between the first two `---` lines, None when there is none, and the rest of the text."""
    match = _FRONT_MATTER.match(text, 0, min(len(text), MAX_YAML_BYTES))
    return (match[1], text[match.end() :]) if match else (None, text)


def parse_model_card(text: str) -> Card:
    """A README of a model: its YAML front matter, when it has one.

    Args:
        text: the whole file. Damaged front matter is a problem of the card, never an error.
    """
    front, _ = split_front_matter(text)
    if front is None:
        return Card(kind="model-card")
    try:
        fields, _ = parse_yaml(front)
    except YamlError as error:
        line = "" if error.line is None else f" (line {error.line})"
        return Card(kind="model-card", problems=(f"the front matter cannot be read{line}: {error}",))
    if fields is None:
        return Card(kind="model-card")
    if not isinstance(fields, dict):
        return Card(kind="model-card", problems=("the front matter is not a mapping",))
    problems: list[str] = []
    licences = _texts(fields, "license", problems)
    name = _text(fields, "license_name", problems)
    return Card(
        kind="model-card",
        name=_text(fields, "model_name", problems),
        licence=", ".join(licences),
        licence_spdx=_one_licence(licences, name),
        licence_name=name,
        licence_link=_text(fields, "license_link", problems),
        base_models=_texts(fields, "base_model", problems),
        base_model_relation=_text(fields, "base_model_relation", problems),
        tags=_texts(fields, "tags", problems),
        datasets=_texts(fields, "datasets", problems),
        languages=_texts(fields, "language", problems),
        metrics=_texts(fields, "metrics", problems),
        library=_text(fields, "library_name", problems),
        pipeline_tag=_text(fields, "pipeline_tag", problems),
        claims=tuple(_claims(fields.get("model-index"), problems)),
        problems=tuple(dict.fromkeys(problems)),
    )


def parse_wheel_metadata(text: str) -> Card:
    """METADATA of a wheel or PKG-INFO of an sdist (core metadata, RFC 822 headers)."""
    from email.parser import HeaderParser

    headers = HeaderParser().parsestr(text[:MAX_TEXT_BYTES])
    licence = _header(headers.get("License-Expression")) or _header(headers.get("License"))
    licence = "" if licence == "UNKNOWN" else licence  # what old setuptools writes for nothing
    classifiers = [_header(value) for value in headers.get_all("Classifier", [])[:_MAX_LIST]]
    spdx = normalise_licence(licence)
    if spdx is None:
        named = {normalise_licence(item) for item in classifiers if item.startswith("License ::")} - {None}
        spdx = named.pop() if len(named) == 1 else None
    urls = {}
    for value in headers.get_all("Project-URL", [])[:_MAX_LIST]:
        label, _, address = _header(value).partition(",")
        urls[label.strip()] = address.strip()
    if home := _header(headers.get("Home-page")):
        urls.setdefault("Homepage", home)
    return Card(
        kind="wheel-metadata",
        name=_header(headers.get("Name")),
        version=_header(headers.get("Version")),
        summary=_header(headers.get("Summary")),
        licence=licence or ", ".join(item for item in classifiers if item.startswith("License ::")),
        licence_spdx=spdx,
        tags=tuple(tag for tag in re.split(r"[,\s]+", _header(headers.get("Keywords"))) if tag),
        urls=urls,
    )


def parse_package_json(fields: object) -> Card:
    """package.json of an npm package, already parsed."""
    if not isinstance(fields, dict):
        return Card(kind="npm-package", problems=("package.json is not an object",))
    problems: list[str] = []
    licence = fields.get("license")
    if isinstance(licence, dict):  # the deprecated form {"type": …, "url": …}
        licence = licence.get("type")
    licence = licence[:_MAX_TEXT_CHARS] if isinstance(licence, str) else ""
    repository = fields.get("repository")
    address = repository.get("url") if isinstance(repository, dict) else repository
    urls = {"Homepage": _text(fields, "homepage", problems)}
    urls["Repository"] = address[:_MAX_TEXT_CHARS] if isinstance(address, str) else ""
    return Card(
        kind="npm-package",
        name=_text(fields, "name", problems),
        version=_text(fields, "version", problems),
        summary=_text(fields, "description", problems),
        licence=licence,
        licence_spdx=normalise_licence(licence),
        tags=_texts(fields, "keywords", problems),
        urls={label: url for label, url in urls.items() if url},
        problems=tuple(problems),
    )


def _one_licence(licences: tuple[str, ...], name: str) -> str | None:
    """The one licence that is stated; `other` defers to its name."""
    found = {normalise_licence(licence) for licence in licences}
    if found == {None} and name:
        found = {normalise_licence(name)}
    return found.pop() if len(found) == 1 else None


def _scalar(value: object) -> str | None:
    return str(value)[:_MAX_TEXT_CHARS] if isinstance(value, str | int | float) else None


def _text(fields: dict[Any, Any], key: str, problems: list[str]) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    text = _scalar(value)
    if text is None:
        problems.append(f"`{key}` is not text")
    return text or ""


def _texts(fields: dict[Any, Any], key: str, problems: list[str]) -> tuple[str, ...]:
    """A list of texts; one text is taken as a list of one."""
    value = fields.get(key)
    if value is None:
        return ()
    items = value[:_MAX_LIST] if isinstance(value, list) else [value]
    texts = [_scalar(item) for item in items]
    if None in texts:
        problems.append(f"`{key}` is not a list of texts")
    return tuple(text for text in texts if text)


def _claims(index: object, problems: list[str]) -> Iterator[ClaimedMetric]:
    """The results of a `model-index`. Source: the hub's model-index specification."""
    if index is None:
        return
    if not isinstance(index, list):
        problems.append("`model-index` is not a list")
        return
    for model in index[:_MAX_LIST]:
        results = model.get("results") if isinstance(model, dict) else None
        if not isinstance(results, list):
            problems.append("an entry of `model-index` has no list of results")
            continue
        for result in results[:_MAX_LIST]:
            yield from _result(_scalar(model.get("name")) or "", result, problems)


def _result(model: str, result: object, problems: list[str]) -> Iterator[ClaimedMetric]:
    metrics = result.get("metrics") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(metrics, list):
        problems.append("a result of `model-index` has no list of metrics")
        return
    task, dataset, source = (_dict(result.get(key)) for key in ("task", "dataset", "source"))
    for metric in metrics[:_MAX_LIST]:
        if not isinstance(metric, dict) or _scalar(metric.get("type")) is None:
            problems.append("a metric of `model-index` has no type")
            continue
        yield ClaimedMetric(
            metric=_scalar(metric.get("type")) or "",
            value=_number(metric.get("value")),
            value_text=_value_text(metric.get("value")),
            model=model,
            task=_scalar(task.get("type")) or _scalar(task.get("name")) or "",
            dataset=_scalar(dataset.get("type")) or _scalar(dataset.get("name")) or "",
            dataset_config=_scalar(dataset.get("config")) or "",
            dataset_split=_scalar(dataset.get("split")) or "",
            dataset_revision=_scalar(dataset.get("revision")) or "",
            metric_name=_scalar(metric.get("name")) or "",
            is_verified=metric.get("verified") is True,
            source=_scalar(source.get("url")) or "",
        )


def _dict(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    """A finite number, also one that was written as text, such as `91.2` or `91.2%`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)[:101]) > 100:
        return None
    try:
        number = float(value.strip().removesuffix("%") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def _value_text(value: object) -> str:
    text = _scalar(value)
    if text is None:
        try:
            text = json.dumps(value, default=str)
        except (ValueError, RecursionError, TypeError):
            text = ""
    return text[:_MAX_TEXT_CHARS]


def _header(value: object) -> str:
    """A header's value on one line; email.parser gives an object for undecodable bytes."""
    return " ".join(str(value).split())[: _MAX_TEXT_CHARS * 20] if value is not None else ""
