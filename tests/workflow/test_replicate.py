"""replicate: right and wrong re-implementations, by the outcome, the findings and the exit status."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import regraft as rg
from regraft.cli.app import run
from regraft.errors import UsageError
from regraft.record.evidence import Evidence
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.torch_factory import torch_model
from regraft.runtime.trace_files import write_trace

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _factories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def _replicated(candidate: str, reference: str = "reference", **options) -> Evidence:
    return rg.replicate(f"py:replication_factories:{reference}", f"py:replication_factories:{candidate}", **options)


def _rules(evidence: Evidence) -> dict[str, str]:
    return {finding.rule: finding.message for finding in evidence.findings}


def test_a_renamed_transposed_port_is_the_same_network(tmp_path: Path) -> None:
    kept, script = tmp_path / "map.toml", tmp_path / "convert.py"
    evidence = _replicated("renamed", map_out=kept, converter_out=script)
    assert (evidence.verdict, evidence.outcome) == ("pass", "replicated")
    (mapped,) = [one for one in evidence.measurements if one.name == "weights_mapped"]
    assert (mapped.value, mapped.n, mapped.of["status"]) == (10, 10, "proven")
    again = _replicated("renamed", map_file=kept)
    assert again.outcome == "replicated"
    assert subprocess.run([sys.executable, script], capture_output=True, check=False).returncode == 1  # says its usage


def test_a_wrong_epsilon_is_named_although_names_and_layouts_differ() -> None:
    evidence = _replicated("other_epsilon")
    assert evidence.outcome == "differs"
    causes = {finding.data.get("cause") for finding in evidence.findings if finding.rule == "divergence.origin"}
    assert causes == {"epsilon"}


def test_a_wrong_epsilon_is_named_in_a_norm_of_many_operators() -> None:
    assert _replicated("spelt_out").outcome == "replicated"
    causes = [one.data["cause"] for one in _replicated("spelt_out_wrongly").findings if one.rule == "divergence.origin"]
    assert causes == ["epsilon"]


def test_an_image_may_be_flattened_otherwise_behind_a_convolution_of_one_place() -> None:
    assert _replicated("channels_last", reference="channels_first").outcome == "replicated"


def test_both_are_timed_where_that_is_asked_although_they_differ() -> None:
    evidence = _replicated("deeper", is_profiled=True)

    assert evidence.outcome == "differs"
    assert "the candidate takes " in _rules(evidence)["replicate.profile"]
    assert "replicate.extra_in_candidate" in _rules(evidence)


def test_the_extra_layer_is_named() -> None:
    evidence = _replicated("deeper")
    assert evidence.outcome == "differs"
    assert "layers.2" in _rules(evidence)["replicate.extra_in_candidate"]
    other_way = _replicated("reference", reference="deeper")
    assert "layers.2" in _rules(other_way)["replicate.extra_in_reference"]


def test_the_norm_behind_the_last_layer_is_not_taken_for_that_of_an_extra_one() -> None:
    evidence = _replicated("with_norms_deeper", reference="with_norms", is_proven=False)
    (extra,) = [one for one in evidence.findings if one.rule == "replicate.extra_in_candidate"]
    assert extra.where.candidate.startswith("layers.2.")
    other_way = _replicated("with_norms", reference="with_norms_deeper", is_proven=False)
    (extra,) = [one for one in other_way.findings if one.rule == "replicate.extra_in_reference"]
    assert extra.where.reference.startswith("layers.2.")


def test_a_head_that_the_candidate_does_not_return_is_only_noted() -> None:
    evidence = _replicated("one_output", reference="two_outputs")
    assert evidence.outcome == "replicated"
    assert "pooler.weight" in _rules(evidence)["replicate.not_returned"]


def test_other_widths_are_told_with_both_shapes() -> None:
    evidence = _replicated("wider")
    assert evidence.outcome == "differs"
    assert "(12, 6)" in evidence.summary
    assert "(8, 6)" in evidence.summary


def test_a_weight_that_was_converted_wrongly_is_told_apart_from_the_architecture() -> None:
    evidence = _replicated("wrongly_filled")
    assert evidence.outcome == "differs"
    (finding,) = [one for one in evidence.findings if one.rule == "replicate.own_weights"]
    assert finding.where.candidate == "layers.1.weight"
    assert finding.data["cause"] == "weight_permuted"
    assert all(one.rule != "divergence.origin" for one in evidence.findings)


def test_random_numbers_inside_are_told() -> None:
    evidence = _replicated("random")
    assert evidence.verdict != "pass"
    assert "verify.not_deterministic" in _rules(evidence)


def test_control_flow_that_depends_on_numbers_is_undecided() -> None:
    evidence = _replicated("branching")
    assert evidence.outcome == "undecided"
    assert "torch.export cannot follow the network" in _rules(evidence)["replicate.cannot_map"]


@pytest.mark.parametrize(
    ("candidate", "said"), [("silent", "the candidate returns no tensor"), ("stopping", "out of order")]
)
def test_a_candidate_without_an_answer_is_undecided_and_told_why(candidate: str, said: str) -> None:
    evidence = _replicated(candidate)
    assert evidence.outcome == "undecided"
    assert said in _rules(evidence)["replicate.cannot_map"]


def test_a_map_that_leaves_weights_out_is_refused(tmp_path: Path) -> None:
    partial = tmp_path / "map.toml"
    partial.write_text('schema = "regraft.weight-map/1"\npair = []\n')
    with pytest.raises(UsageError, match=r"nothing for w\.0"):
        _replicated("renamed", map_file=partial)


def test_tests_of_blocks_are_written_for_a_replica_and_for_nothing_else(tmp_path: Path) -> None:
    told = _rules(_replicated("reference", tests_out=tmp_path / "blocks"))
    assert told["replicate.tests"].startswith("5 blocks have a test")
    assert "from replication_factories import reference" in (tmp_path / "blocks/test_blocks.py").read_text()
    assert (
        "not the same network"
        in _rules(_replicated("other_epsilon", tests_out=tmp_path / "none"))["replicate.no_tests"]
    )
    assert not (tmp_path / "none").exists()


def test_weights_that_nothing_uses_make_no_other_network() -> None:
    evidence = _replicated("dead")
    assert evidence.outcome == "replicated", evidence.summary
    assert "unused" in _rules(evidence)["replicate.unused"]


@pytest.mark.parametrize(("factory", "said"), [("raising", "ZeroDivisionError"), ("leaving", "SystemExit")])
def test_a_factory_that_raises_is_told_with_its_own_line(factory: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        _replicated(factory)
    assert "replication_factories.py:" in caught.value.where


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ours = "py:replication_factories:reference"
    store = ["--store", str(tmp_path / "store")]
    assert run(["replicate", ours, "py:replication_factories:wider", "--json", *store]) == 1
    assert json.loads(capsys.readouterr().out)["kind"] == "replicate"
    missing = str(tmp_path / "none.toml")
    assert run(["replicate", ours, "py:replication_factories:renamed", "--map", missing, "--json", *store]) == 2
    assert missing in json.loads(capsys.readouterr().out)["error"]["where"]


def test_a_recording_of_another_framework_is_compared_as_it_is(tmp_path: Path) -> None:
    factories = importlib.import_module("replication_factories")
    model = torch_model(*factories.reference())
    recorded = write_trace(tmp_path / "recorded", model, list(generated_feeds(model.signature))[:2])
    same = rg.replicate("py:replication_factories:reference", f"trace:{recorded}")
    assert same.outcome == "replicated"
    assert "replicate.own_weights_only" in _rules(same)
    timed = rg.replicate("py:replication_factories:reference", f"trace:{recorded}", is_profiled=True)
    assert timed.verdict == "inconclusive"
    assert "a model of trace takes no time of its own" in _rules(timed)["replicate.no_profile"]
    other = rg.replicate("py:replication_factories:deeper", f"trace:{recorded}")
    assert other.outcome == "differs"
