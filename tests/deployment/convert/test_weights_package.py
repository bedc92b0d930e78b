"""Weights without a network: from container to container, as a package, through the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from regraft.deployment.convert import convert
from regraft.errors import AmbiguousReference, NotFound, UsageError
from regraft.record.evidence import Record, Verdict
from regraft.record.lineage import Lineage
from regraft.workflow.convert import convert as convert_scanned

FORMS = ("npz", "hdf5", "gguf", "torch-weights", "safetensors")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    random = np.random.default_rng(0)
    tensors = {f"layer.{i}.weight": random.normal(size=(4, 3)).astype(np.float32) for i in range(3)}
    save_file({**tensors, "steps": np.arange(3)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"hidden": 3}')
    (folder / "LICENSE").write_text("Apache License\nVersion 2.0\n")
    return folder


@pytest.mark.parametrize("form", FORMS[:-1])
def test_there_and_back_the_bits_are_the_same(form: str, package: Path, tmp_path: Path) -> None:
    there = convert(package, to=form, out=tmp_path / "there")
    assert (there.evidence.verdict, there.evidence.outcome) == (Verdict.PASS, "converted"), there.evidence.summary
    back = convert_scanned(tmp_path / "there", to="safetensors", out=tmp_path / "back")
    assert back.evidence.verdict is Verdict.PASS
    assert there.evidence.parameters["content"] == back.evidence.parameters["content"]
    before, after = load_file(package / "model.safetensors"), load_file(tmp_path / "back/model.safetensors")
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() and before[name].dtype == after[name].dtype for name in before)


def test_it_is_a_package_with_what_belongs_to_it_and_its_lineage(package: Path, tmp_path: Path) -> None:
    made = convert(package, to="npz", out=tmp_path / "made")
    assert {path.name for path in made.path.iterdir()} == {"weights.npz", "config.json", "LICENSE", "regraft.json"}
    described = json.loads((made.path / "regraft.json").read_text())
    assert described["converted_from"]["sha256"] == made.evidence.materials[0].sha256
    assert "runtime" not in described
    (tie, *_) = Lineage([Record(made.evidence.digest, made.evidence)]).parents(made.evidence.subject[0].sha256)
    assert tie.parent.sha256 == made.evidence.materials[0].sha256


def test_what_cannot_be_is_told(package: Path, tmp_path: Path) -> None:
    save_file({"x": np.zeros(2, np.float32)}, package / "other.safetensors")
    with pytest.raises(AmbiguousReference, match=r"model\.safetensors"):
        convert(package, to="npz", out=tmp_path / "made")
    named = convert(f"{package}#other.safetensors", to="npz", out=tmp_path / "named")
    assert named.evidence.verdict is Verdict.PASS
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("nothing")
    with pytest.raises(NotFound):
        convert(tmp_path / "empty", to="npz", out=tmp_path / "made")
    with pytest.raises(UsageError, match="loaded model"):
        convert(object(), to="npz", out=tmp_path / "made")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "model.safetensors").write_bytes((package / "model.safetensors").read_bytes()[:-8])
    made = convert(damaged, to="npz", out=tmp_path / "made")
    assert (made.evidence.verdict, made.path) == (Verdict.INCONCLUSIVE, None)
    assert not (tmp_path / "made").exists()
