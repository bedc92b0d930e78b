from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_cells import CELLS, cells

from regraft.errors import InternalError, StoreError
from regraft.record.evidence import Verdict
from regraft.record.store import Store
from regraft.workflow.engine.interface import Resources
from regraft.workflow.engine.local import LocalEngine
from regraft.workflow.execute import execute, preview
from regraft.workflow.state import Status
from regraft.workflow.steps import Found, Given, Guarded, Setting, Several, Step, dependencies, in_order

DOUBLES = Path(__file__).parent / "doubles"
TASKS = Path(__file__).parent / "engine"
KILLS = 20


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "kept")


@pytest.fixture
def engine():
    with LocalEngine(import_from=[str(DOUBLES), str(TASKS)], cores=2) as engine:
        yield engine


def step(name: str, function: str = "verb_doubles:cell", **fields) -> Step:
    arguments = fields.pop("arguments", {"name": Given(name)})
    return Step(name=name, verb="inspect", function=function, arguments=arguments, **fields)


def test_a_run_that_is_killed_at_random_moments_ends_up_as_one_that_was_not(store, journal):
    """SIGKILL, 20 times: what was reported as over is never done again, and at the end everything is there."""
    draw = random.Random(7)
    over: set[str] = set()
    calls = 0
    for _ in range(KILLS):
        command = [sys.executable, str(DOUBLES / "run_cells.py"), str(store.root), "3"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        reports = draw.randrange(3)
        said = [process.stdout.readline() for _ in range(len(over) + reports)]
        time.sleep(draw.uniform(0, 0.3))
        process.kill()
        rest, complaint = process.communicate(timeout=20)
        lines = [line for line in [*said, *rest.splitlines()] if line.startswith("over")]
        assert "Traceback" not in complaint
        kept = {line.rsplit(" ", 1)[0] for line in lines if line.strip().endswith("kept")}
        done = {line.rsplit(" ", 1)[0] for line in lines if line.strip().endswith("done")}
        assert not done & over, "what was reported as over was done again"
        assert kept >= over or len(kept) + len(done) < CELLS
        over |= kept | done
        calls += len(journal())
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    calls += len(journal())
    assert len(finished.stdout.splitlines()) == CELLS
    assert calls >= CELLS
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in again.stdout.splitlines()] == ["kept"] * CELLS
    assert journal() == []


def test_each_step_runs_once_after_all_that_it_depends_on(store, engine, journal):
    over: list[str] = []

    def watch(state):
        if state.status is Status.RUNNING:
            assert dependencies(state.step) <= set(over)
        elif state.status.is_over:
            over.append(state.step.name)

    states = execute(cells(1), store=store, engine=engine, watch=watch)
    assert len(over) == len(set(over)) == CELLS
    assert len(journal()) == CELLS
    assert all(state.status is Status.DONE for state in states.values())


@pytest.mark.parametrize(
    ("function", "arguments", "resources", "word"),
    [
        ("segfault", {}, Resources(), "SIGSEGV"),
        ("hang", {}, Resources(time_s=0.5), "not done after"),
        ("eat", {"megabytes": Given(900)}, Resources(memory_bytes=150 << 20), "MB are allowed"),
        ("refuse", {}, Resources(), "the header is torn"),
        ("blunder", {}, Resources(), "ZeroDivisionError"),
    ],
)
def test_a_step_that_dies_leaves_a_record_and_is_tried_again(function, arguments, resources, word, store, engine):
    steps = [
        step("bad", f"task_functions:{function}", arguments=arguments, resources=resources),
        step("wants it", needs=("bad",), function="task_functions:good"),
        step("takes what there is", "task_functions:good", arguments={"name": Given("x"), "found": Found("bad")}),
        step("has nothing to do with it", "task_functions:good"),
    ]
    for _ in range(2):
        states = execute(steps, store=store, engine=engine)
        bad = states["bad"]
        assert bad.status is Status.FAILED
        assert word in bad.reason
        assert bad.record.evidence.verdict is Verdict.INCONCLUSIVE
        assert store.evidence(bad.record.digest) == bad.record.evidence
        assert bad.record.evidence.findings[0].fix or function == "refuse"
        assert states["wants it"].status is Status.SKIPPED
        assert word in states["wants it"].reason
    assert states["has nothing to do with it"].status is Status.KEPT
    assert states["takes what there is"].status is Status.DONE


def test_a_list_goes_on_with_what_is_left_and_stops_with_nothing(store, engine):
    steps = [
        step("bad", "task_functions:judged", arguments={"name": Given("b"), "severity": Given("high")}),
        step("good", "task_functions:judged", arguments={"name": Given("g"), "severity": Given("info")}),
        step("some", "task_functions:several", arguments={"names": _those("bad", "good")}),
        step("none", "task_functions:several", arguments={"names": _those("bad")}),
    ]
    states = execute(steps, store=store, engine=engine)
    assert states["some"].record.evidence.summary == "good"
    assert states["none"].status is Status.SKIPPED
    assert states["none"].verdict is Verdict.FAIL
    assert "bad says fail: b is high" in states["none"].reason


def _those(*names: str) -> Several:
    return Several(tuple(Guarded(Given(name), (name,)) for name in names))


def test_every_piece_of_evidence_is_kept_and_the_first_one_counts(store, engine):
    steps = [step("several", "task_functions:several", arguments={"names": Given(["joint", "a", "b"])})]
    state = execute(steps, store=store, engine=engine)["several"]
    assert state.record.evidence.summary == "joint"
    assert {record.evidence.summary for record in store.all_evidence()} == {"joint", "a", "b"}


def test_a_setting_makes_no_other_step_and_a_value_does(store, engine):
    def once(value, setting):
        arguments = {"name": Given("n"), "value": Given(value), "setting": Setting(setting)}
        states = execute([step("s", "task_functions:good", arguments=arguments)], store=store, engine=engine)
        return states["s"].status

    assert once(1, True) is Status.DONE
    assert once(1, False) is Status.KEPT
    assert once(2, False) is Status.DONE
    assert once(1, True) is Status.KEPT


@pytest.mark.parametrize("change", [{"version": 2}, {"seed": 1}, {"runtimes": ("numpy",)}, {"is_volatile": True}])
def test_what_a_step_is_decides_whether_it_is_kept(change, store, engine):
    execute([step("s", "task_functions:good")], store=store, engine=engine)
    assert preview([step("s", "task_functions:good")], store=store)["s"].status is Status.KEPT
    assert preview([step("s", "task_functions:good", **change)], store=store)["s"].status is Status.WAITING


def test_a_watched_file_is_part_of_the_step(store, engine, tmp_path):
    code = tmp_path / "nets.py"
    code.write_text("one")
    watching = [step("s", "task_functions:good", watches=(code,))]
    execute(watching, store=store, engine=engine)
    assert preview(watching, store=store)["s"].status is Status.KEPT
    code.write_text("two")
    assert preview(watching, store=store)["s"].status is Status.WAITING
    code.unlink()
    state = execute(watching, store=store, engine=engine)["s"]
    assert state.status is Status.FAILED
    assert "no such file" in state.reason


def test_a_store_that_cannot_be_written_ends_the_run(engine, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        execute([step("s", "task_functions:good")], store=Store(tmp_path / "file/x"), engine=engine)


def test_a_watcher_that_raises_ends_the_run_and_its_workers(store, engine):
    def watch(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute([step("s", "task_functions:hang", arguments={})], store=store, engine=engine, watch=watch)
    assert list(engine.events()) == []
    assert list((store.root / "work").iterdir()) == []


def test_steps_that_cannot_be_put_in_order_are_refused():
    with pytest.raises(InternalError, match="two steps"):
        in_order([step("a"), step("a")])
    with pytest.raises(InternalError, match="not there"):
        in_order([step("a", needs=("b",))])
    with pytest.raises(InternalError, match="circle"):
        in_order([step("a", needs=("b",)), step("b", after=("a",))])
    assert [one.name for one in in_order([step("b", needs=("a",)), step("a")])] == ["a", "b"]
