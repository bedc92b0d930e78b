"""replicate --fuzz and --replay: what a user sees of a search, and of what it found."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import regraft as rg
from regraft.cli.app import run
from regraft.conceptual.fuzzing.counterexample_file import write_counterexample_tests
from regraft.errors import Damaged, NotFound, UsageError
from regraft.record.evidence import Evidence
from regraft.record.store import Store

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _factories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def fuzzed(candidate: str, **options) -> Evidence:
    reference = options.pop("reference", "tokens")
    return rg.replicate(f"py:fuzzing_factories:{reference}", f"py:fuzzing_factories:{candidate}", threads=1, **options)


def rules(evidence: Evidence) -> dict[str, str]:
    return {finding.rule: finding.message for finding in evidence.findings}


def test_what_ordinary_inputs_do_not_show_is_found_kept_and_judged_again(tmp_path: Path) -> None:
    """One story, as each part needs the one before: found, kept, a test that fails, judged again."""
    assert fuzzed("clipped").outcome == "replicated"
    store, folder = Store(tmp_path / "store"), tmp_path / "kept"
    evidence = fuzzed("clipped", fuzz_s=60, store=store, tests_out=folder)
    assert evidence.outcome == "differs"
    (found,) = [one for one in evidence.findings if one.rule == "replicate.counterexample"]
    assert found.data["inputs"]["ids"]["values"] == [22]
    assert any(one.rule == "divergence.origin" for one in evidence.findings)  # it is located, too
    (artifact,) = evidence.artifacts
    path = folder / "counterexample.safetensors"
    assert store.blob_path(artifact.sha256).read_bytes() == path.read_bytes()
    assert load_file(path)["ids"].tolist() == [[22]]

    specification = importlib.util.spec_from_file_location("emitted", folder / "test_counterexamples.py")
    emitted = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(emitted)
    with pytest.raises(AssertionError, match="noise floors off"):
        emitted.test_counterexample(*emitted.FILES)
    mended = fuzzed("sound", replay=emitted.FILES)
    assert mended.outcome == "replicated"
    assert "both agree on it" in rules(mended)["replicate.replayed"]


def test_a_counterexample_that_cannot_be_kept_is_told_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)  # as if it were not installed
    evidence = fuzzed("clipped", fuzz_s=60, store=Store(tmp_path))
    assert evidence.outcome == "differs"
    assert "this needs the package safetensors" in rules(evidence)["replicate.not_kept"]
    assert "replicate.counterexample" in rules(evidence)


def test_nothing_found_is_a_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = ["py:fuzzing_factories:tokens", "py:fuzzing_factories:sound"]
    assert run(["replicate", *names, "--fuzz", "5", "--threads", "1", "--json", "--store", str(tmp_path)]) == 0
    evidence = json.loads(capsys.readouterr().out)
    (found,) = [one["message"] for one in evidence["findings"] if one["rule"] == "replicate.fuzz"]
    assert found.startswith("no disagreement in ")
    assert evidence["parameters"]["fuzz_s"] == 5
    assert run(["replicate", *names, "--fuzz", "0", "--json", "--store", str(tmp_path)]) == 2


def test_the_test_of_a_counterexample_has_the_options_that_it_was_found_with(tmp_path: Path) -> None:
    path, folder = tmp_path / "map.toml", tmp_path / "kept"
    fuzzed("clipped", map_out=path)
    options = {"own_weights": True, "candidate_factory": "fuzzing_factories:clipped", "seed": 3}
    files = {"map_file": path}
    write_counterexample_tests(
        folder, {}, reference="py:fuzzing_factories:tokens", candidate="py:fuzzing_factories:clipped",
        options={**options, **files},
    )  # fmt: skip
    specification = importlib.util.spec_from_file_location("with_options", folder / "test_counterexamples.py")
    emitted = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(emitted)
    assert {**options, "map_file": folder / "options" / "map_file.toml"} == emitted.OPTIONS
    assert emitted.OPTIONS["map_file"].read_bytes() == path.read_bytes()


def test_weights_of_the_candidates_own_are_tested_as_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    evidence = fuzzed("shifted", fuzz_s=60, own_weights=True, tests_out=folder)
    assert evidence.outcome == "differs"
    program = (folder / "test_counterexamples.py").read_text("utf-8")
    assert "'own_weights': True" in program
    again = fuzzed("shifted", own_weights=True, replay=[folder / "counterexample.safetensors"])
    assert again.outcome == "differs"


def test_networks_that_differ_already_are_not_fuzzed() -> None:
    evidence = fuzzed("other", fuzz_s=60)
    assert evidence.outcome == "differs"
    assert "the two differ already" in rules(evidence)["replicate.no_fuzz"]


def test_networks_whose_inputs_do_not_correspond_are_not_fuzzed() -> None:
    evidence = fuzzed("of_two", fuzz_s=60, own_weights=True)
    assert evidence.outcome == "undecided"
    assert "the inputs do not correspond" in rules(evidence)["replicate.no_fuzz"]


@pytest.mark.parametrize(
    ("name", "error"), [("missing", NotFound), ("damaged", Damaged), ("arrays", UsageError), ("names", UsageError)]
)
def test_a_file_that_is_no_counterexample_of_these_is_told(tmp_path: Path, name: str, error: type[Exception]) -> None:
    path = tmp_path / f"{name}.safetensors"
    recipe = json.dumps({"schema": "regraft.counterexample/1", "checkpoint": "own", "seed": 0})
    if name == "damaged":
        path.write_bytes(b"\xff" * 40)
    elif name != "missing":
        save_file({"x": np.zeros(3)}, path, {"regraft": recipe} if name == "names" else None)
    with pytest.raises(error) as caught:
        fuzzed("sound", replay=[path])
    assert str(path) in caught.value.where
