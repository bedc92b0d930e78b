from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regraft.errors import PlanError, StoreError
from regraft.record.evidence import Verdict
from regraft.record.passport import read_passport
from regraft.record.store import Store
from regraft.workflow.run import Run, run
from regraft.workflow.state import Status

_SPEC = importlib.util.spec_from_file_location("workflow_conftest", Path(__file__).parent / "conftest.py")
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)
BERT_FILES = {
    "model.safetensors": _CONFTEST.safetensors_bytes(_CONFTEST.BERT),
    "config.json": json.dumps(_CONFTEST.CONFIG).encode(),
}

PLAN = """\
schema: regraft.plan/1
name: sentiment
task: text-classification
data: {ref: reviews.csv, text: text, label: label, learn: 10, held_out: 10}
candidates:
  - {name: bert, ref: package}
  - {name: other, ref: other}
targets: [onnxruntime, openvino]
attended_minutes: 12.5
"""
POLICY = """\
policy:
  evidence:
    scan: {verdict: pass}
    verify: {verdict: pass}
    bench: {measurements: [latency_p95.high <= 20 ms]}
"""
DOUBLED = ("select", "adapt", "convert", "verify", "bench")
ALL = sorted(
    (
        "select bert other",
        "adapt package",
        "convert onnx",
        "convert openvino",
        "verify sentiment-onnx",
        "verify sentiment-openvino",
        "bench sentiment-onnx sentiment-openvino",
    )
)


def write_plan(folder: Path) -> Path:
    """A plan about two small packages, beside the packages."""
    for path, content in BERT_FILES.items():
        (folder / "package").mkdir(exist_ok=True)
        (folder / "package" / path).write_bytes(content)
    (folder / "other").mkdir()
    (folder / "other/notes.txt").write_text("another candidate\n")
    (folder / "reviews.csv").write_text("text,label\ngood,1\nbad,0\n")
    path = folder / "reuse.yaml"
    path.write_text(PLAN + POLICY)
    return path


@pytest.fixture
def plan(tmp_path) -> Path:
    return write_plan(tmp_path)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "kept")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Run]:
    """A store after a whole run, and that run; the same packages lie elsewhere in each test."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_TEST_JOURNAL", str(folder / "journal"))
        for verb in DOUBLED:
            patch.setattr(f"regraft.workflow.derive.{verb.upper()}", f"verb_doubles:{verb}")
        result = run(write_plan(folder), store=Store(folder / "kept"), out=folder / "out")
    assert result.evidence.verdict is Verdict.PASS, result.evidence.summary
    return folder, result


@pytest.fixture
def store_after_run(finished, store) -> Store:
    shutil.copytree(finished[0] / "kept", store.root)
    return store


def statuses(result) -> dict[str, str]:
    return {state.step.name: state.status.value for state in result.steps}


def test_a_plan_is_done_from_candidates_to_a_judged_package(finished):
    folder, result = finished
    assert result.evidence.outcome == "ready"
    assert sorted((folder / "journal").read_text().splitlines()) == ALL
    assert set(statuses(result).values()) == {"done"}
    checks = [state.step.name for state in result.steps if state.step.verb == "check"]
    assert checks == ["check onnxruntime", "check openvino"]
    assert result.evidence.subject[0].name == "sentiment"
    assert (folder / "out/report.html").read_text().startswith("<!")
    assert (folder / "out/packages/sentiment-onnx").read_text().endswith("as onnx")


def test_a_second_run_keeps_everything_that_was_found_out(plan, finished, store_after_run, doubled, journal):
    second = run(plan, store=store_after_run)
    assert journal() == []
    again = {name for name, status in statuses(second).items() if status != "kept"}
    assert again == {"fetch bert", "fetch other", "data"}, "what lies on a disk is always hashed again"
    assert second.evidence.verdict is Verdict.PASS
    for one, two in zip(finished[1].steps, second.steps, strict=True):
        if two.status is Status.KEPT:
            assert one.record.digest == two.record.digest


@pytest.mark.parametrize(
    ("old", "new", "called"),
    [
        ("attended_minutes: 12.5", "attended_minutes: 60", []),
        ("targets: [onnxruntime, openvino]", "targets: [openvino]", ["bench sentiment-openvino"]),
        ("latency_p95.high <= 20 ms", "latency_p95.high <= 30 ms", []),  # what candidates must meet is the same
        ("scan: {verdict: pass}", "scan: {max_severity: low}", ["select bert other"]),
        ("attended_minutes: 12.5", "seed: 7", ALL),
        # The double adapts to the same bytes whatever the rows: a conversion of the same bytes is the same.
        (
            "learn: 10",
            "learn: 11",
            ["adapt package", "select bert other", "verify sentiment-onnx", "verify sentiment-openvino"],
        ),
        ("name: other", "name: zebra", ["select bert zebra"]),  # the choice is the same, and so is all after it
    ],
)
def test_what_changed_is_done_again_with_all_that_depends_on_it(
    old, new, called, plan, store_after_run, doubled, journal
):
    text = plan.read_text()
    assert old in text
    plan.write_text(text.replace(old, new))
    result = run(plan, store=store_after_run)
    assert journal() == sorted(called)
    assert result.evidence.verdict is Verdict.PASS


def test_other_bytes_of_a_candidate_are_another_candidate(plan, store_after_run, doubled, journal, tmp_path):
    (tmp_path / "other/notes.txt").write_text("changed\n")
    result = run(plan, store=store_after_run)
    assert journal() == ["select bert other"], "bert was chosen again, and its bytes are the same"
    assert statuses(result)["scan bert"] == "kept"
    assert statuses(result)["scan other"] == "done"


def test_a_made_package_that_was_damaged_or_removed_is_made_again(plan, finished, store_after_run, doubled, journal):
    root = store_after_run.root
    states = {state.step.name: state for state in finished[1].steps}
    products = {
        name: root / state.product.relative_to(finished[0] / "kept") for name, state in states.items() if state.product
    }
    products["convert onnxruntime"].write_text("damaged")
    products["convert openvino"].unlink()
    result = run(plan, store=store_after_run)
    assert journal() == ["convert onnx", "convert openvino"], "they came out as they were: what follows stands"
    assert result.evidence.verdict is Verdict.PASS


def test_evidence_that_was_damaged_is_found_out_again(plan, finished, store_after_run, doubled, journal):
    digest = next(state.record.digest for state in finished[1].steps if state.step.name == "verify openvino")
    path = store_after_run.root / f"evidence/sha256/{digest[:2]}/{digest}.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-9])
    result = run(plan, store=store_after_run)
    assert journal() == ["verify sentiment-openvino"]
    assert result.evidence.verdict is Verdict.INCONCLUSIVE, "the damaged file may have said something else"
    assert "cannot be read" in result.evidence.summary


def test_a_dry_run_does_nothing(plan, store, doubled, journal):
    result = run(plan, store=store, dry_run=True)
    assert set(statuses(result).values()) == {"waiting"}
    assert result.evidence.outcome == "planned"
    assert not store.root.exists()
    assert journal() == []


def test_a_dangerous_candidate_drops_out_and_the_others_go_on(plan, store, doubled, journal, tmp_path):
    (tmp_path / "package/extra.pkl").write_bytes(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.")
    result = run(plan, store=store)
    assert "select other" in journal()
    assert result.evidence.verdict is Verdict.PASS
    scanned = next(f for f in result.evidence.findings if f.data["step"] == "scan bert")
    assert scanned.severity == "medium"
    assert scanned.data["verdict"] == "fail"


def test_with_no_candidate_left_the_run_fails_and_says_why(plan, store, doubled, journal, tmp_path):
    for folder in ("package", "other"):
        (tmp_path / folder / "x.pkl").write_bytes(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.")
    result = run(plan, store=store)
    assert journal() == []
    assert result.evidence.verdict is Verdict.FAIL
    assert "no candidates left" in result.evidence.summary
    weighing = [finding.data["step"] for finding in result.evidence.findings if finding.severity == "high"]
    assert weighing == ["select"], "what follows from it is not blamed again"
    assert statuses(result)["select"] == "skipped"


def test_a_missing_candidate_drops_out(plan, store, doubled, journal):
    plan.write_text(plan.read_text().replace("ref: other", "ref: nowhere"))
    result = run(plan, store=store)
    assert "select bert" in journal()
    assert result.evidence.verdict is Verdict.PASS
    (missing,) = [f for f in result.evidence.findings if f.data["step"] == "fetch other"]
    assert missing.data["status"] == "failed"
    assert "nowhere" in missing.message or "nothing" in missing.message


def test_when_nothing_fits_the_run_fails_with_the_reason_of_select(plan, store, doubled, journal, monkeypatch):
    monkeypatch.setattr("regraft.workflow.derive.SELECT", "verb_doubles:undecided_select")
    result = run(plan, store=store)
    assert result.evidence.verdict is Verdict.FAIL
    assert "the closest misses by 4 ms" in result.evidence.summary
    assert statuses(result)["adapt"] == "skipped"


def test_a_crash_of_one_target_leaves_the_other(plan, store, doubled, journal, monkeypatch):
    monkeypatch.setattr("regraft.workflow.derive.CONVERT", "verb_doubles:crashing_convert")
    result = run(plan, store=store)
    assert result.evidence.verdict is Verdict.INCONCLUSIVE
    assert "SIGABRT" in result.evidence.summary
    assert statuses(result)["check onnxruntime"] == "done"
    assert statuses(result)["verify openvino"] == "skipped"
    assert "bench sentiment-onnx" in journal()
    crashed = next(state for state in result.steps if state.step.name == "convert openvino")
    assert crashed.record.evidence.verdict is Verdict.INCONCLUSIVE
    log = next(a for a in crashed.record.evidence.artifacts if a.name == "log")
    assert b"Aborted" in store.blob_path(log.sha256).read_bytes()
    adapted = next(state for state in result.steps if state.step.name == "adapt").record.evidence.subject[0]
    assert crashed.record.evidence.subject == (adapted,)
    assert crashed.record in read_passport(store, adapted.sha256).records
    monkeypatch.setattr("regraft.workflow.derive.CONVERT", "verb_doubles:convert")
    healed = run(plan, store=store)
    assert healed.evidence.verdict is Verdict.PASS
    assert "convert openvino" in journal(), "what crashed is tried again"


def test_evidence_about_other_bytes_than_were_made_is_not_believed(plan, store, doubled, journal, monkeypatch):
    monkeypatch.setattr("regraft.workflow.derive.CONVERT", "verb_doubles:lying_convert")
    result = run(plan, store=store)
    assert result.evidence.verdict is Verdict.INCONCLUSIVE
    assert "not what its evidence is about" in result.evidence.summary


def test_a_verb_that_is_not_there_is_told_and_what_does_not_need_it_goes_on(plan, store, doubled, monkeypatch):
    monkeypatch.setattr("regraft.workflow.derive.VERIFY", "regraft.deployment.nowhere:verify")
    result = run(plan, store=store)
    assert result.evidence.verdict is Verdict.INCONCLUSIVE
    assert "nowhere" in result.evidence.summary
    assert statuses(result)["bench"] == "done"


def test_the_ledger_has_every_step_and_the_time_of_people(plan, finished, store_after_run, doubled):
    first, second = finished[1].evidence, run(plan, store=store_after_run).evidence
    for evidence in (first, second):
        costs = {finding.data["step"]: finding.data["cost"] for finding in evidence.findings}
        totals = {measurement.name: measurement.value for measurement in evidence.measurements}
        assert set(costs["adapt"]) == {"step_wall", "step_cpu", "step_peak_memory"}
        assert costs["adapt"]["step_peak_memory"] > 5e6
        assert totals["total_cpu"] == pytest.approx(sum(cost["step_cpu"] for cost in costs.values()), abs=0.01)
        assert totals["peak_memory"] == max(cost["step_peak_memory"] for cost in costs.values())
        assert totals["attended"] == 12.5
    assert costs["adapt"] == next(f.data["cost"] for f in first.findings if f.data["step"] == "adapt"), (
        "when it was done"
    )
    assert totals["run_cpu"] < totals["total_cpu"]


def test_the_evidence_of_a_run_names_all_that_it_stands_on(plan, finished):
    store, evidence = Store(finished[0] / "kept"), finished[1].evidence
    assert store.evidence(evidence.digest) == evidence
    for material in evidence.materials[1:]:
        assert store.evidence(material.sha256)
    (kept,) = [artifact for artifact in evidence.artifacts if artifact.name == "plan"]
    assert store.blob_path(kept.sha256).read_bytes() == plan.read_bytes()


def test_factories_are_watched_where_they_lie_beside_the_plan(plan, store_after_run, doubled, journal, tmp_path):
    store = store_after_run
    plan.write_text(plan.read_text().replace("ref: package}", "ref: package, factory: my_nets:tiny}"))
    code = tmp_path / "my_nets.py"
    code.write_text("def tiny(): ...\n")
    run(plan, store=store)
    journal()
    run(plan, store=store)
    assert journal() == []
    code.write_text("def tiny(): return 2\n")
    run(plan, store=store)
    assert journal() == ["adapt package", "select bert other"]


def test_a_store_that_takes_nothing_ends_the_run_with_one_error(plan, doubled, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        run(plan, store=Store(tmp_path / "file/store"))


def command(plan: Path, store: Store, *more: str) -> list[str]:
    doubles = "; ".join(f"derive.{verb.upper()} = 'verb_doubles:{verb}'" for verb in DOUBLED)
    code = (
        f"import sys; sys.path.append({str(Path(__file__).parent / 'doubles')!r}); "
        f"from regraft.workflow import derive; {doubles}; from regraft.cli import main; main()"
    )
    into = str(plan.parent / "out")
    return [sys.executable, "-c", code, "run", str(plan), "--store", str(store.root), "--into", into, *more]


def test_a_run_that_is_ended_in_any_step_goes_on_from_there(plan, store, journal, monkeypatch):
    """Ended at every step in turn, at first sight of it, in three ways."""
    monkeypatch.setenv("REGRAFT_TEST_NAP", "0.3")
    seen: list[str] = []
    for deadly in [signal.SIGINT, signal.SIGKILL, signal.SIGTERM] * 2 + [signal.SIGINT]:
        process = subprocess.Popen(command(plan, store), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        fresh: list[str] = []
        end = time.monotonic() + 60
        while not fresh and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
            fresh = journal()
        process.send_signal(deadly)
        _, said = process.communicate(timeout=30)
        seen += fresh + journal()
        assert "Traceback" not in said
        if deadly is signal.SIGINT:
            assert process.returncode == 130
            assert "what was finished is kept" in said
    monkeypatch.setenv("REGRAFT_TEST_NAP", "0")
    result = subprocess.run(command(plan, store, "--json"), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verdict"] == "pass"
    assert set(seen + journal()) == set(ALL)


def test_no_space_for_results_is_one_message(plan, store, journal):
    """A file system that takes only small files stands for a full disk."""
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh", *command(plan, store)]
    result = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "error: " in result.stderr


def test_the_command_line_shows_steps_and_a_verdict(plan, store_after_run, journal):
    plan.write_text(plan.read_text().replace("[onnxruntime, openvino]", "[openvino]"))
    result = subprocess.run(command(plan, store_after_run), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "= kept     adapt" in result.stderr
    assert "✓ done     bench" in result.stderr
    assert "PASS" in result.stdout.splitlines()[0].upper()


def test_a_dry_run_on_the_command_line_says_what_would_be_kept(finished, journal):
    plan, store = finished[0] / "reuse.yaml", Store(finished[0] / "kept")
    before = sorted(path for path in store.root.rglob("*"))
    dry = subprocess.run(command(plan, store, "--dry-run"), capture_output=True, text=True, check=False)
    assert dry.returncode == 0
    assert dry.stderr == ""
    assert "would run   fetch bert" in dry.stdout
    assert "would keep  convert openvino" in dry.stdout
    assert sorted(path for path in store.root.rglob("*")) == before
    assert journal() == []


def test_a_plan_that_cannot_be_understood_is_one_message(plan, store, journal):
    plan.write_text(plan.read_text().replace("candidates:", "candidate:"))
    result = subprocess.run(command(plan, store, "--json"), capture_output=True, text=True, check=False)
    assert result.returncode == 2
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "plan"
    assert error["where"].endswith("reuse.yaml:5")
    assert "candidates" in error["hint"]
    with pytest.raises(PlanError):
        run(plan, store=store)
