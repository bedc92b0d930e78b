from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from regraft.errors import Damaged, RegraftError, Unsupported
from regraft.package.package import open_package
from regraft.runtime import load, model_path
from regraft.runtime.pipeline import DESCRIPTION, SCHEMA, description_path, labels_of

ENCODER = "encoder/model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline over 1,200 token vectors of width 3, and a head for two classes."""
    rng = np.random.default_rng(0)
    (tmp_path / "encoder").mkdir()
    save_file({"embedding.weight": rng.normal(size=(1200, 3)).astype(np.float32)}, tmp_path / ENCODER)
    save_file(
        {"weight": np.float32([[1, 0, 0], [0, 1, -1]]), "bias": np.float32([0.5, 0])}, tmp_path / "head.safetensors"
    )
    vocabulary = {f"w{i}": i for i in range(1200)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    }
    (tmp_path / "encoder/tokenizer.json").write_text(json.dumps(tokenizer))
    describe(tmp_path)
    return tmp_path


def describe(folder: Path, **changes: Any) -> None:
    stage = {"encoder": ENCODER, "kind": "static-embedding", "head": "head.safetensors", "modes": ["mean"]}
    stage |= changes.pop("pipeline", {})
    fields = {"schema": SCHEMA, "task": "text-classification", "pipeline": stage, "labels": ["no", "yes"]}
    (folder / DESCRIPTION).write_text(json.dumps(fields | changes))


def test_ids_to_logits(folder: Path) -> None:
    with open_package(folder) as package:
        assert model_path(package) == ENCODER
        assert labels_of(package) == ("no", "yes")
        model = load(package)
    ids = np.array([[5, 7, 0], [9, 0, 0]])
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    logits = model({"input_ids": ids, "attention_mask": mask})["logits"]
    from safetensors.numpy import load_file

    vectors = load_file(folder / ENCODER)["embedding.weight"]
    pooled = np.stack([vectors[[5, 7]].mean(axis=0), vectors[9]])
    expected = np.stack([pooled[:, 0] + 0.5, pooled[:, 1] - pooled[:, 2]], axis=1)
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6)  # sums of three float32 terms


def test_without_its_head_it_is_its_encoder(folder: Path) -> None:
    with open_package(folder) as package:
        assert load(package, head=False).runtime == "numpy"
    with open_package(f"{folder}#encoder") as package:
        assert description_path(package) is None
        assert load(package).runtime == "numpy"


def test_precision_can_be_demanded(folder: Path) -> None:
    with open_package(folder) as package:
        assert load(package, precision="float64").effective_precision == "float64"


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "regraft.package/9"},
        {"labels": ["only"]},
        {"labels": "x"},
        {"pipeline": {"modes": ["magic"]}},
        {"pipeline": {"modes": []}},
        {"pipeline": {"encoder": "../../etc/model.safetensors"}},
        {"pipeline": {"encoder": "/etc/model.safetensors"}},
    ],
)
def test_what_is_no_description_is_not_followed(folder: Path, changes: dict[str, Any]) -> None:
    describe(folder, **changes)
    with open_package(folder) as package:
        assert load(package).runtime == "numpy"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"labels": ["a", "b", "c"]}, Damaged),
        ({"pipeline": {"head": "../head.safetensors"}}, RegraftError),
        ({"pipeline": {"head": "nothing.safetensors"}}, RegraftError),
        ({"pipeline": {"head": ENCODER}}, Damaged),
        ({"pipeline": {"kind": "magic"}}, Unsupported),
        ({"pipeline": {"kind": "transformers"}}, RegraftError),
    ],
)
def test_parts_that_do_not_fit_are_said(folder: Path, changes: dict[str, Any], error: type[Exception]) -> None:
    describe(folder, **changes)
    with open_package(folder) as package, pytest.raises(error):
        load(package)
