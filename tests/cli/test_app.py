from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regraft.cli import app

REGRAFT = [sys.executable, "-m", "regraft"]
HEAVY = {"numpy", "torch", "onnx", "rich", "sqlalchemy", "jinja2", "urllib3", "yaml", "importlib.metadata"}


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*REGRAFT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload]


def imported_by(*arguments: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "regraft", *arguments], capture_output=True, text=True, check=True
    )
    return {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if "|" in line}


def test_version_imports_next_to_nothing() -> None:
    modules = imported_by("--version")
    assert not modules & (HEAVY | {"click", "msgspec"})


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    modules = imported_by("--help")
    assert not modules & HEAVY
    assert not {m for m in modules if m.startswith(("regraft.package", "regraft.trust", "regraft.workflow"))}


def test_help_names_every_verb_and_every_verb_has_help() -> None:
    text = run("--help").stdout
    for verb in ("inspect", "scan", "fetch", "check", "doctor"):
        assert f"\n  {verb} " in text
        shown = run(verb, "--help")
        assert shown.returncode == 0
        assert "--json" in shown.stdout
        assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("scna", "x"), "usage", "regraft scan"),
        (("scan",), "usage", "regraft scan --help"),
        (("scan", "x", "--frobnicate"), "usage", "regraft scan --help"),
        (("scan", "x", "--format", "yaml"), "usage", "regraft scan --help"),
        (("scan", "no/such/file"), "not-found", ""),
        (("inspect", "pypi://"), "reference-syntax", ""),
    ],
)
def test_what_cannot_be_used_is_one_message_and_exit_2(arguments: tuple[str, ...], code: str, hint: str) -> None:
    result = run(*arguments, "--json")
    assert result.returncode == 2
    error = json.loads(result.stdout)["error"]
    assert set(error) == {"code", "what", "where", "hint"}
    assert error["code"] == code
    assert hint in error["hint"]
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) <= 3


def test_without_a_verb_the_help_is_shown() -> None:
    result = run()
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: regraft VERB")
    assert result.stdout == ""


def test_the_next_command_can_be_pasted(tmp_path: Path) -> None:
    (tmp_path / "my model.json").write_text("{}")
    (tmp_path / "policy.yaml").write_text("schema: regraft.policy/1\nevidence: {scan: {}}\n")
    for verb in ("fetch", "inspect", "scan"):
        shown = run(verb, "my model.json", cwd=tmp_path).stdout
        following = shlex.split(shown.splitlines()[-1].removeprefix("next: regraft "))
        assert following[1] == "my model.json"
        assert run(*following, cwd=tmp_path).returncode == 0, following
    assert following[0] == "check"


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_of_several_subjects_each_is_named(tmp_path: Path, quiet: tuple[str, ...]) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    shown = run("scan", "a.json", "b.json", *quiet, cwd=tmp_path).stdout
    verdicts = [line for line in shown.replace(":\n", ": ").splitlines() if "✓ pass" in line]
    assert [line.split(": ")[0] for line in verdicts] == ["a.json", "b.json"]


def test_doctor_tells_of_a_store_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "todo.txt").write_text("buy milk")
    monkeypatch.setattr("regraft.workflow.doctor.RUNTIMES", ())  # their imports take seconds
    assert app.run(["doctor", "--store", str(tmp_path), "--json"]) == 1
    evidence = json.loads(capsys.readouterr().out)
    assert evidence["outcome"] == "broken"
    assert "RGD-STO-001" in {finding["rule"] for finding in evidence["findings"]}
    assert [path.name for path in tmp_path.iterdir()] == ["todo.txt"]


def test_missing_evidence_names_the_command_that_makes_it(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "policy.yaml").write_text("schema: regraft.policy/1\nevidence: {scan: {}}\n")
    result = run("check", "model.json", "--policy", "policy.yaml", "--json", cwd=tmp_path)
    assert result.returncode == 3
    assert json.loads(result.stdout)["findings"][0]["fix"] == "regraft scan model.json"


def test_results_go_to_stdout_and_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    result = run("scan", tmp_path, "--json", "-v")
    json.loads(result.stdout)


def test_the_store_can_be_a_read_only_folder_only_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    result = run("scan", tmp_path, "--json", "--store", tmp_path / "file" / "store")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["code"] in {"store", "usage"}


def test_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    target = tmp_path / "out.json"
    result = run("scan", tmp_path / "notes.txt", "--json", "-o", target)
    assert result.stdout == ""
    assert json.loads(target.read_text())["kind"] == "scan"
    assert run("scan", tmp_path / "notes.txt", "-o", tmp_path / "no" / "folder.json").returncode == 2
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["notes.txt", "out.json"]


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    with Path("/dev/full").open("w") as full:
        command = [*REGRAFT, "scan", str(tmp_path / "notes.txt")]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "No space left" in result.stderr


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n")
    command = f"{' '.join(REGRAFT)} scan {tmp_path / 'notes.txt'} --json | true"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_a_whole_store(sent: signal.Signals, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(8 << 30)
    store = tmp_path / "own-store"
    child = subprocess.Popen(
        [*REGRAFT, "scan", str(big), "--store", str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(1.5)
    child.send_signal(sent)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list(store.rglob("*.tmp*"))
