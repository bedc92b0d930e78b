"""How the steps of a run are shown while it goes on."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap

import pytest

from regraft.cli.step_table import step_table, steps_text
from regraft.workflow.state import Status, StepState
from regraft.workflow.steps import Step


def state(name: str, status: Status, **fields: object) -> StepState:
    return StepState(Step(name=name, verb="scan", function="m:f", arguments={}), status, **fields)


def test_without_a_terminal_each_change_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with step_table(shown=True) as watch:
        watch(state("scan a", Status.RUNNING))
        watch(state("scan a", Status.RUNNING, progress=0.5))
        watch(state("scan a", Status.FAILED, reason="died of SIGSEGV\x1b[2J", seconds=1.25))
        watch(state("scan b", Status.KEPT))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.split()[1:4] for line in lines] == [
        ["started", "scan", "a"],
        ["failed", "scan", "a"],
        ["kept", "scan", "b"],
    ]
    assert "1.2 s  died of SIGSEGV" in lines[1]
    assert "\x1b" not in captured.err


def test_nothing_is_shown_when_nothing_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with step_table(shown=False) as watch:
        assert watch is None
    assert capsys.readouterr().err == ""


def test_a_table_of_what_would_be_done_is_plain_and_narrow() -> None:
    text = steps_text([state("fetch a", Status.WAITING), state("scan a", Status.SKIPPED, reason="x" * 300)])
    assert "would run   fetch a" in text
    assert max(map(len, text.splitlines())) <= 100


def test_on_a_terminal_it_is_a_table_that_ends_with_every_step() -> None:
    code = """
        import sys, time
        from regraft.cli.step_table import step_table
        from regraft.workflow.state import Status, StepState
        from regraft.workflow.steps import Step
        state = StepState(Step(name="scan a", verb="scan", function="m:f", arguments={}))
        with step_table(shown=True) as watch:
            for status in (Status.RUNNING, Status.DONE):
                state.status = status
                state.seconds = 1.5
                watch(state)
                time.sleep(0.3)
    """
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | {"TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stderr=theirs, stdout=subprocess.PIPE, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"")
    assert b"running" in shown
    assert "✓  done  scan a  1.5 s".encode() in shown.rsplit(b"running", 1)[1]
