"""Programs under guard: what they load is scanned first. The attacks call functions that do not exist."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest

import regraft as rg
from regraft.errors import PermitRefused
from regraft.workflow.guard import guarded_environment

BIN = Path(sys.executable).parent


@pytest.fixture
def harm(tmp_path):
    path = tmp_path / "harm.pkl"
    path.write_bytes(b"cos\nwreck\n(S'everything'\ntR.")
    return path


@pytest.fixture
def strange(tmp_path):
    path = tmp_path / "strange.pkl"
    path.write_bytes(b"csomelib.models\nNet\n)\x81.")
    return path


def test_what_scan_refuses_is_not_opened(harm):
    with rg.guard():
        with pytest.raises(PermitRefused, match=r"os\.wreck"):
            joblib.load(harm)
        with pytest.raises(PermitRefused, match=r"os\.wreck"), harm.open("rb") as file:
            pickle.load(file)
        with pytest.raises(PermitRefused, match=r"os\.wreck"):
            pickle.load(io.BytesIO(harm.read_bytes()))


def test_what_passes_is_opened_and_streams_are_read_from_where_they_stood(tmp_path):
    joblib.dump({"a": [1]}, tmp_path / "a.joblib")
    np.save(tmp_path / "a.npy", np.arange(3))
    stream = io.BytesIO(b"head" + pickle.dumps([1, 2]))
    stream.seek(4)
    with rg.guard():
        assert joblib.load(tmp_path / "a.joblib") == {"a": [1]}
        assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]
        assert pickle.load(stream) == [1, 2]


def test_the_undecided_is_refused_unless_the_user_says_otherwise_or_has_reviewed_it(strange):
    with rg.guard(), pytest.raises(PermitRefused, match="somelib"):
        joblib.load(strange)
    for options in ({"refuse": "dangerous"}, {"allow": ["somelib.models.Net"]}):
        with rg.guard(**options), pytest.raises(ModuleNotFoundError):  # joblib went on, and there is no such library
            joblib.load(strange)


def test_a_file_that_changes_is_scanned_again(tmp_path, harm):
    path = tmp_path / "model.joblib"
    joblib.dump([1], path)
    with rg.guard():
        assert joblib.load(path) == [1]
        path.write_bytes(harm.read_bytes())
        with pytest.raises(PermitRefused):
            joblib.load(path)


def test_everything_is_as_before_when_the_guard_goes(harm):
    before = pickle.load, joblib.load
    with rg.guard():
        assert pickle.load is not before[0]
    assert (pickle.load, joblib.load) == before


def test_what_a_stream_is_called_is_not_what_it_holds(harm, tmp_path, monkeypatch):
    """Members of archives, a relative name after a change of folder, a file that was read in part."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# hello\n")
    (tmp_path / "data.csv").write_bytes(b"a,b\n1,2\n" + harm.read_bytes())
    (tmp_path / "below").mkdir()
    (tmp_path / "below/harm.pkl").write_text("hello")
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.write(harm, "README.md")
    with tarfile.open("a.tar", "w") as tar:
        tar.add(harm, "README.md")
    with (
        rg.guard(),
        zipfile.ZipFile("a.zip") as archive,
        archive.open("README.md") as zipped,
        tarfile.open("a.tar") as tar,
        tar.extractfile("README.md") as tarred,
        open("harm.pkl", "rb") as moved,
        open("data.csv", "rb") as read,
    ):
        read.seek(8)
        os.chdir("below")
        for stream in (zipped, tarred, moved, read):
            with pytest.raises(PermitRefused, match=r"os\.wreck"):
                pickle.load(stream)


def guarded(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "regraft"), "guard", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, **environment}, timeout=120
    )


def test_a_program_is_guarded_from_its_start(harm, tmp_path):
    (tmp_path / "program.py").write_text(
        "import sys, torch\ntorch.load(sys.argv[1], weights_only=False)\nprint('on')\n"
    )
    done = guarded(sys.executable, "program.py", harm.name, folder=tmp_path)
    assert done.returncode == 1
    assert "PermitRefused" in done.stderr
    assert "on" not in done.stdout.split()


def test_the_programs_own_status_comes_back_and_its_sitecustomize_runs(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("import os\nos.environ['SEEN'] = 'yes'\n")
    code = "import os, sys; print(os.environ.get('SEEN')); sys.exit(7)"
    done = guarded(
        "--refuse", "dangerous", sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(tmp_path / "site")
    )
    assert (done.returncode, done.stdout.strip()) == (7, "yes")


def test_a_program_that_cannot_be_guarded_does_not_start(tmp_path, monkeypatch):
    (tmp_path / "regraft").mkdir()
    (tmp_path / "regraft/__init__.py").write_text("raise ImportError('another regraft')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = guarded_environment({"refuse": "dangerous"})
    done = subprocess.run([sys.executable, "-c", "print('on')"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "not started" in done.stderr


def test_a_program_that_is_not_there(tmp_path):
    assert guarded("no-such-program", folder=tmp_path).returncode == 2


@pytest.mark.parametrize("option", ["-I", "-E", "-S", "-BE"])
def test_an_option_that_would_leave_the_program_without_a_guard(option, tmp_path):
    done = guarded(sys.executable, "-W", "ignore", option, "-c", "print('on')", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"-{option[-1]}" in done.stderr


def test_a_program_that_never_confirmed_its_guard(tmp_path):
    done = guarded("true", folder=tmp_path)
    assert done.returncode == 2
    assert "was not guarded" in done.stderr
    assert (
        guarded(sys.executable, "-c", "import sys; assert sys.argv[1] == '-I'", "-I", folder=tmp_path).returncode == 0
    )


def test_an_allow_file_with_a_flaw_is_told_before_the_program_starts(tmp_path):
    (tmp_path / "allow.yaml").write_text("allow: 3\n")
    for name in ("allow.yaml", "nowhere.yaml"):
        done = guarded("--allow-file", name, sys.executable, "-c", "print('on')", folder=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert name in done.stderr


@pytest.mark.slow
def test_from_pretrained_of_a_folder_with_harmful_code(tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "repository"
    folder.mkdir()
    config = {"model_type": "bert", "auto_map": {"AutoConfig": "configuration_x.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_x.py").write_text("import subprocess\nsubprocess.getoutput(no_such_name)\n")
    with rg.guard(), pytest.raises(PermitRefused, match="when it is imported"):
        transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=True)
