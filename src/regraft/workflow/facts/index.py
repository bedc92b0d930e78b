"""Claims of the registry's own files: METADATA of a wheel, PKG-INFO of an sdist, package.json of an npm package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.parser import HeaderParser

from regraft.package.card import parse_package_json, parse_wheel_metadata
from regraft.package.licence import normalise_licence
from regraft.workflow.facts.interface import Claim, InspectedFile, Origin
from regraft.workflow.facts.licence import licence_value
from regraft.workflow.facts.plain import plain

_MAX_SUMMARY = 500
_REQUIREMENT = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9._/-]*")
_LIBRARIES = (
    "torch", "tensorflow", "keras", "jax", "flax", "onnxruntime", "openvino", "transformers", "sentence-transformers",
    "scikit-learn", "tflite-runtime", "ai-edge-litert", "llama-cpp-python", "paddlepaddle", "spacy", "safetensors",
    "@tensorflow/tfjs", "@tensorflow/tfjs-core", "onnxruntime-node", "onnxruntime-web",
)  # fmt: skip


def is_index_file(path: str) -> bool:
    """Whether a registry writes this file: METADATA of a wheel, or PKG-INFO and package.json near the top."""
    folder, _, name = path.rpartition("/")
    depth = folder.count("/") + bool(folder)
    if name == "METADATA":
        return folder.endswith(".dist-info") and depth == 1
    return name in ("PKG-INFO", "package.json") and depth <= 1


def claims_from_index(file: InspectedFile) -> Iterator[Claim]:
    """What the package's publisher told the registry."""
    if file.basename == "package.json":
        yield from _npm(file)
    elif file.text is not None:
        yield from _python(file, file.text)


def _python(file: InspectedFile, text: str) -> Iterator[Claim]:
    card = parse_wheel_metadata(text)
    if card.summary not in ("", "UNKNOWN"):
        yield _claim(file, "summary", card.summary[:_MAX_SUMMARY], "Summary")
    headers = [(key.lower(), str(value)) for key, value in HeaderParser().parsestr(text).items()]
    for key in ("license-expression", "license"):
        for value in [v for k, v in headers if k == key][:1]:
            if (identifier := licence_value(value)) is not None:
                yield _claim(file, "licence", identifier, "License" if key == "license" else "License-Expression")
    classifiers = [value for key, value in headers if key == "classifier"]
    for classifier in classifiers:
        if classifier.startswith("License ::") and (identifier := normalise_licence(classifier)):
            yield _claim(file, "licence", identifier, "Classifier", said=classifier)
    languages = [c.removeprefix("Natural Language :: ") for c in classifiers if c.startswith("Natural Language :: ")]
    if languages:
        yield _claim(file, "language", languages, "Classifier")
    required = [value for key, value in headers if key == "requires-dist" and "extra ==" not in value]
    yield from _libraries(file, [r.split(";")[0].strip() for r in required], "Requires-Dist")


def _npm(file: InspectedFile) -> Iterator[Claim]:
    card = parse_package_json(file.document)
    if card.summary:
        yield _claim(file, "summary", card.summary[:_MAX_SUMMARY], "description")
    if (identifier := licence_value(card.licence)) is not None:
        yield _claim(file, "licence", identifier, "license")
    document = file.document if isinstance(file.document, dict) else {}
    dependencies = [
        f"{name} {version}"
        for section in (document.get("dependencies"), document.get("peerDependencies"))
        if isinstance(section, dict)
        for name, version in section.items()
    ]
    yield from _libraries(file, dependencies, "dependencies")


def _libraries(file: InspectedFile, requirements: list[str], key: str) -> Iterator[Claim]:
    found = []
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and match[0].lower().replace("_", "-") in _LIBRARIES:
            found.append(requirement.replace(" (", "").replace(")", "")[:80])
    if found:
        yield _claim(file, "libraries", found[:20], key)


def _claim(file: InspectedFile, field: str, value: object, key: str, *, said: str | None = None) -> Claim:
    return Claim(field, plain(value), Origin.INDEX, file.path, key, said)
