"""Cards as file formats: model cards, wheel metadata, package.json, and the bookkeeping files of wheels."""

from __future__ import annotations

import re

from regraft.errors import Damaged
from regraft.package.card import Card, parse_model_card, parse_package_json, parse_wheel_metadata, split_front_matter
from regraft.package.formats.interface import HEAD_BYTES, Description, Loading, Probe, Problem, Role

_README = re.compile(r"(?:readme|model[-_ ]?card|modelcard)\b.*", re.DOTALL)
_MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx", ".rst", "", ".txt")
_CARD_KEYS = re.compile(
    r"^(?:license|language|tags|datasets|base_model|pipeline_tag|library_name|model-index|metrics|model_name)\s*:",
    re.MULTILINE,
)
_NPM_KEYS = frozenset(
    ["main", "scripts", "dependencies", "devDependencies", "license", "files", "exports", "repository", "keywords"]
)
_RECORD_LINE = re.compile(rb"[^\r\n]+,(?:sha256=[\w-]{43}=?,\d+|,)\r?\n")
_MAX_FACT_CHARS = 500


class ModelCard:
    """Format `model-card`: Markdown with a card's front matter, or a README."""

    name = "model-card"
    title = "model card"
    role = Role.CARD
    loading = Loading.INERT
    suffixes = (".md", ".markdown", ".rst")

    def matches(self, probe: Probe) -> bool:
        """Text with front matter that has a card's keys, or text that is named README or model card."""
        is_named = _README.fullmatch(probe.basename) is not None and probe.suffix in _MARKDOWN_SUFFIXES
        if not is_named and not probe.head.lstrip(b"\xef\xbb\xbf").startswith(b"---"):
            return False
        if probe.text is None:
            return False
        front, _ = split_front_matter(probe.text)
        return is_named or (front is not None and _CARD_KEYS.search(front) is not None)

    def describe(self, probe: Probe) -> Description:
        """The card's fields."""
        if probe.text is None:
            raise Damaged("not UTF-8 text, or too large", where=probe.reader.where)
        return _described(parse_model_card(probe.text))


class WheelMetadata:
    """Format `wheel-metadata`: METADATA or PKG-INFO of a Python distribution."""

    name = "wheel-metadata"
    title = "Python package metadata"
    role = Role.CARD
    loading = Loading.INERT
    suffixes = ()

    def matches(self, probe: Probe) -> bool:
        """Text that begins with `Metadata-Version:`."""
        return probe.head.lstrip(b"\xef\xbb\xbf").startswith(b"Metadata-Version:") and probe.text is not None

    def describe(self, probe: Probe) -> Description:
        """Its fields."""
        if probe.text is None:
            raise Damaged("not UTF-8 text, or too large", where=probe.reader.where)
        return _described(parse_wheel_metadata(probe.text))


class NpmPackage:
    """Format `npm-package`: package.json."""

    name = "npm-package"
    title = "npm package metadata"
    role = Role.CARD
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with a name, and a version or scripts, and other keys of a package."""
        fields = probe.json
        return (
            isinstance(fields, dict)
            and isinstance(fields.get("name"), str)
            and isinstance(fields.get("version", ""), str)
            and len(fields.keys() & _NPM_KEYS) >= (1 if probe.basename == "package.json" else 3)
        )

    def describe(self, probe: Probe) -> Description:
        """Its fields."""
        return _described(parse_package_json(probe.json))


class WheelRecord:
    """Format `wheel-bookkeeping`: RECORD, WHEEL, entry_points.txt, top_level.txt of a `.dist-info` folder."""

    name = "wheel-bookkeeping"
    title = "wheel bookkeeping"
    role = Role.OTHER
    loading = Loading.INERT
    suffixes = (".txt",)

    def matches(self, probe: Probe) -> bool:
        """The first lines of RECORD or WHEEL; the others, which have no structure of their own, by their folder."""
        if probe.head.startswith(b"Wheel-Version:") or _is_record(probe.head):
            return True
        is_inside = ".dist-info/" in probe.name or ".egg-info/" in probe.name
        named = probe.basename in (
            "entry_points.txt",
            "top_level.txt",
            "installer",
            "requested",
            "dependency_links.txt",
        )
        return is_inside and named and probe.text is not None

    def describe(self, probe: Probe) -> Description:
        """Which of them it is."""
        return Description(metadata={"kind": "RECORD" if _is_record(probe.head) else probe.basename})


def _is_record(head: bytes) -> bool:
    """Lines of path, sha256 and size, as in RECORD."""
    lines = head.splitlines(keepends=True)
    if len(head) == HEAD_BYTES:
        lines.pop()  # it may be cut off
    return len(lines) >= 2 and b",sha256=" in head and all(_RECORD_LINE.fullmatch(line) for line in lines)


def _described(card: Card) -> Description:
    """The fields that say something, as metadata under their own names."""
    facts = {
        "kind": card.kind, "name": card.name, "version": card.version, "summary": card.summary,
        "licence": card.licence, "licence_spdx": card.licence_spdx or "", "licence_name": card.licence_name,
        "licence_link": card.licence_link, "base_model": ", ".join(card.base_models),
        "base_model_relation": card.base_model_relation, "tags": ", ".join(card.tags),
        "datasets": ", ".join(card.datasets), "language": ", ".join(card.languages),
        "metrics": ", ".join(card.metrics), "library": card.library, "pipeline_tag": card.pipeline_tag,
        "claims": "; ".join(f"{claim.dataset} {claim.metric} {claim.value_text}" for claim in card.claims[:50]),
        "urls": ", ".join(card.urls.values()),
    }  # fmt: skip
    return Description(
        metadata={key: value[:_MAX_FACT_CHARS] for key, value in facts.items() if value},
        problems=tuple(Problem(what) for what in card.problems),
    )
