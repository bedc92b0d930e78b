from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from regraft.progress import listening
from regraft.record.evidence import evidence_from_json
from regraft.record.store import Store
from regraft.workflow.engine.interface import (
    Ended,
    Ending,
    EvidenceAt,
    Fields,
    Items,
    Made,
    PathAt,
    Plain,
    Progressed,
    Resources,
    Started,
    TheStore,
)

HERE = Path(__file__).parent


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


def wait_until(holds, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def pid_of(ended: Ended) -> int:
    return evidence_from_json(ended.evidence[0]).measurements[0].value


def test_a_task_ends_in_its_evidence_and_says_what_it_cost(task, ends):
    (ended,) = ends(task("spin", seconds=0.3))
    assert ended.ending is Ending.DONE
    assert evidence_from_json(ended.evidence[0]).summary == "thing"
    assert 0.3 <= ended.usage.cpu_s < 1.5
    assert ended.usage.wall_s >= 0.29
    assert 5e6 < ended.usage.peak_memory_bytes < 500e6


def test_every_kind_of_value_arrives_as_what_it_stands_for(task, ends, tmp_path):
    from task_functions import good

    kept = Store(tmp_path / "store").put_evidence(good("kept"))
    values = {
        "plain": Plain({"a": [1, None, 2.5, "ü"]}),
        "path": PathAt("/some/where"),
        "evidence": EvidenceAt(kept),
        "store": TheStore(),
        "items": Items((Plain(1), PathAt("x"))),
        "fields": Fields({"k": Plain(True)}),
        "made": Made("regraft.package.reference:parse_reference", {"text": Plain("pypi://a==1")}),
    }
    (ended,) = ends(task("good", values=values))
    said = evidence_from_json(ended.evidence[0]).parameters
    assert said["plain"] == "{'a': [1, None, 2.5, 'ü']}"
    assert said["path"] == "PosixPath('/some/where')"
    assert said["evidence"].startswith("Evidence(")
    assert said["store"] == f"Store({str(tmp_path / 'store')!r})"
    assert said["items"] == "[1, PosixPath('x')]"
    assert said["fields"] == "{'k': True}"
    assert "location='a'" in said["made"]


def test_a_function_may_return_several_pieces_of_evidence(task, ends):
    (ended,) = ends(task("several", names=["joint", "a", "b"]))
    assert [evidence_from_json(one).summary for one in ended.evidence] == ["joint", "a", "b"]


@pytest.mark.parametrize(
    ("function", "ending", "words"),
    [
        ("refuse", Ending.REFUSED, "the header is torn"),
        ("blunder", Ending.RAISED, "ZeroDivisionError: one over none"),
        ("leave", Ending.RAISED, "SystemExit: 7"),
        ("no_evidence", Ending.RAISED, "returned str, not evidence"),
        ("nothing_at_all", Ending.RAISED, "returned list, not evidence"),
        ("does_not_exist", Ending.RAISED, "does_not_exist"),
        ("vanish", Ending.CRASHED, "exit status 7"),
        ("segfault", Ending.CRASHED, "SIGSEGV"),
        ("abort", Ending.CRASHED, "SIGABRT"),
        ("killed_from_outside", Ending.CRASHED, "killed from outside"),
    ],
)
def test_each_way_to_die_is_told_and_harms_nobody_else(function, ending, words, task, ends):
    one, bad, other = ends(task("good", name="before"), task(function), task("good", name="after"))
    assert (one.ending, other.ending) == (Ending.DONE, Ending.DONE)
    assert bad.ending is ending
    assert words in bad.problem.what
    assert bad.evidence == ()


def test_an_error_that_is_foreseen_keeps_its_facts(task, ends):
    (ended,) = ends(task("refuse"))
    problem = ended.problem
    assert (problem.code, problem.where, problem.hint) == ("damaged", "a.bin", "get another")


def test_the_log_says_where_a_crash_happened(task, ends):
    crashed, blundered = ends(task("segfault"), task("blunder"))
    assert b"Segmentation fault" in crashed.log
    assert b"in segfault" in crashed.log
    assert b"in blunder" in blundered.log


def test_output_of_the_step_its_libraries_and_its_children_is_its_log(task, ends, capfd):
    spoke, silent = ends(task("chatty"), task("good"))
    assert spoke.log == b"to stdout\nto stderr\nfrom a child\n"
    assert silent.log == b""
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_log_without_end_is_bounded_on_disk_and_in_the_event(task, ends):
    chatter = task("endless_chatter", size=40 << 20)
    (ended,) = ends(chatter)
    assert ended.ending is Ending.DONE
    assert ended.log.endswith(b"the end\n")
    assert len(ended.log) <= 256 << 10
    assert sum(path.stat().st_size for path in Path(chatter.folder).iterdir()) < 20 << 20


@pytest.mark.parametrize("function", ["hang", "hang_deaf"])
def test_what_hangs_is_ended_and_the_log_says_where(function, task, ends):
    hung, other = ends(task(function, resources=Resources(time_s=0.5)), task("good"))
    assert hung.ending is Ending.TIMED_OUT
    assert "not done after" in hung.problem.what
    assert f"in {function}".encode() in hung.log
    assert 0.5 <= hung.usage.wall_s < 3
    assert other.ending is Ending.DONE


def test_memory_beyond_the_limit_ends_the_task(task, ends):
    limit = Resources(memory_bytes=150 << 20)
    eaten, other = ends(task("eat", megabytes=2000, resources=limit), task("eat", megabytes=30, seconds=0.3))
    assert eaten.ending is Ending.OUT_OF_MEMORY
    assert "150" not in eaten.problem.where
    assert "157 MB are allowed" in eaten.problem.what
    assert 150 << 20 < eaten.usage.peak_memory_bytes < 600 << 20
    assert other.ending is Ending.DONE
    assert other.usage.peak_memory_bytes > 30 << 20


def test_memory_of_children_counts(task, ends):
    (eaten,) = ends(task("eat_in_child", megabytes=400, resources=Resources(memory_bytes=150 << 20)))
    assert eaten.ending is Ending.OUT_OF_MEMORY


def test_address_space_that_is_only_reserved_is_no_memory(task, ends):
    (ended,) = ends(task("reserve", gigabytes=20, resources=Resources(memory_bytes=150 << 20)))
    assert ended.ending is Ending.DONE


def test_peak_memory_is_that_of_the_task_not_of_its_forerunner(task, ends):
    all_cores = Resources(cores=0)
    big, small = ends(task("eat", megabytes=200, seconds=0, resources=all_cores), task("good", resources=all_cores))
    assert big.usage.peak_memory_bytes > 200 << 20
    assert small.usage.peak_memory_bytes < 150 << 20


def test_a_sound_worker_is_used_again_and_a_fresh_one_on_request(task, ends):
    all_cores = Resources(cores=0)
    fresh = Resources(cores=0, is_fresh=True)
    first, second, third, fourth = ends(
        task("good", resources=all_cores),
        task("good", resources=all_cores),
        task("good", resources=fresh),
        task("good", resources=all_cores),
    )
    assert pid_of(first) == pid_of(second)
    assert pid_of(third) not in {pid_of(first), pid_of(fourth)}


@pytest.mark.parametrize(
    ("users", "is_measured", "found"),
    [(None, False, "PASSIVE"), (None, True, "None"), ("ACTIVE", False, "ACTIVE"), ("ACTIVE", True, "ACTIVE")],
)
def test_threads_sleep_in_steps_and_are_measured_as_they_would_be(users, is_measured, found, task, ends, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if users:
        monkeypatch.setenv("OMP_WAIT_POLICY", users)
    (ended,) = ends(task("environment_of_children", is_measured=is_measured))
    assert evidence_from_json(ended.evidence[0]).parameters["policy"] == repr(found)


def test_tasks_run_beside_each_other_as_far_as_there_are_cores(engine, task):
    for resources in (Resources(), Resources(), Resources(), Resources(cores=0), Resources(cores=9)):
        engine.submit(task("nap", seconds=0.3, resources=resources))
    running, most, alone = set(), 0, []
    for event in engine.events():
        if isinstance(event, Started):
            running.add(event.task.name)
            most = max(most, len(running))
            if event.task.resources.cores != 1:
                alone.append(len(running))
        elif isinstance(event, Ended):
            running.discard(event.task.name)
    assert most == 2
    assert alone == [1, 1]


def test_tasks_may_be_submitted_while_others_run(engine, task):
    engine.submit(task("good", name="a"))
    names = []
    for event in engine.events():
        if isinstance(event, Ended):
            names.append(evidence_from_json(event.evidence[0]).summary)
            if len(names) < 3:
                engine.submit(task("good", name="abc"[len(names)]))
    assert names == ["a", "b", "c"]


class Heard:
    def __init__(self):
        self.said = []

    def start(self, what, total, unit):
        self.said.append(("start", what, total, unit))
        return 1

    def advance(self, number, amount):
        self.said.append(("advance", amount))

    def finish(self, number):
        self.said.append(("finish",))


def test_progress_reaches_the_listener_of_the_parent(engine, task):
    heard = Heard()
    engine.submit(task("announced", pieces=10))
    with listening(heard):
        events = [event for event in engine.events() if isinstance(event, Progressed)]
    assert heard.said[0] == ("start", "weighing", 10, "files")
    assert heard.said[-1] == ("finish",)
    assert sum(entry[1] for entry in heard.said if entry[0] == "advance") == 10
    assert len(heard.said) < 10, "not every advance is worth a message"
    assert (events[-1].what, events[-1].done, events[-1].total) == ("weighing", 10, 10)


def test_progress_of_what_dies_comes_to_an_end(engine, task):
    heard = Heard()
    engine.submit(task("announced", pieces=1000, resources=Resources(time_s=0.3)))
    with listening(heard):
        list(engine.events())
    assert heard.said[-1] == ("finish",)


def test_cancel_kills_the_workers_and_all_their_children(engine, task, tmp_path):
    pids = tmp_path / "pids"
    engine.submit(task("hang_with_children", pids=str(pids)))
    engine.submit(task("hang"))
    for event in engine.events():
        if isinstance(event, Started) and event.task.function.endswith("children"):
            break
    assert wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    engine.cancel()
    assert list(engine.events()) == []
    assert wait_until(lambda: not any(is_running(int(pid)) for pid in pids.read_text().split()), 2)


def test_an_engine_that_was_cancelled_can_be_used_again(engine, task, ends):
    engine.submit(task("hang"))
    next(engine.events())
    engine.cancel()
    assert [ended.ending for ended in ends(task("good"))] == [Ending.DONE]


def test_children_that_a_task_left_running_are_ended(engine, task, ends, tmp_path):
    pids = tmp_path / "pids"
    hung = task("hang_with_children", pids=str(pids), resources=Resources(time_s=2))
    (ended,) = ends(hung)
    assert ended.ending is Ending.TIMED_OUT
    assert len(pids.read_text().split()) == 3
    assert wait_until(lambda: not any(is_running(int(pid)) for pid in pids.read_text().split()), 2)


@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_parent_that_is_killed(deadly, tmp_path):
    pids = tmp_path / "pids"
    code = f"""
        from regraft.workflow.engine.interface import Plain, Task
        from regraft.workflow.engine.local import LocalEngine
        engine = LocalEngine(import_from=[{str(HERE)!r}])
        arguments = {{"pids": Plain({str(pids)!r})}}
        engine.submit(Task("t", "task_functions:hang_with_children", arguments, {str(tmp_path)!r}, {str(tmp_path)!r}))
        for event in engine.events():
            print(event, flush=True)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
        members = [int(pid) for pid in pids.read_text().split()]
        assert all(is_running(pid) for pid in members)
        parent.send_signal(deadly)
        parent.wait(10)
        assert wait_until(lambda: not any(is_running(pid) for pid in members), 5)
    finally:
        parent.kill()
        parent.wait()


def test_ctrl_c_is_the_parents_alone(engine, task):
    """A terminal sends SIGINT to its foreground group: the workers are not in it."""
    engine.submit(task("nap", seconds=0.3))
    groups = set()
    for event in engine.events():
        if isinstance(event, Started):
            groups = {os.getpgid(child.pid) for child in engine._busy}
    assert groups
    assert os.getpgid(0) not in groups


def test_no_space_for_a_result_is_told(task, ends, tmp_path):
    code = f"""
        import resource
        from pathlib import Path
        from regraft.workflow.engine.interface import Plain, Task, TheStore
        from regraft.workflow.engine.local import LocalEngine
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        def task(name, size):
            folder = Path({str(tmp_path)!r}) / name
            folder.mkdir()
            arguments = {{"store": TheStore(), "size": Plain(size)}}
            return Task(name, "task_functions:fill_the_store", arguments, str(folder), {str(tmp_path / "s")!r})
        with LocalEngine(import_from=[{str(HERE)!r}], cores=1) as engine:
            engine.submit(task("large", 4 << 20))
            engine.submit(task("small", 1 << 16))
            for event in engine.events():
                if hasattr(event, "ending"):
                    print(event.ending, event.problem)
    """
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    large, small = said.stdout.splitlines()
    assert large.startswith("refused")
    assert "file system takes no file of this size" in large
    assert small == "done None"
