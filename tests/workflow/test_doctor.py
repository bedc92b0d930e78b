import os
import subprocess
import sys
from pathlib import Path

import pytest

from regraft.record.evidence import Draft, Severity, Verdict, evidence_from_json
from regraft.record.store import open_store
from regraft.report.human import human_text
from regraft.workflow import environment_checks as checks
from regraft.workflow.doctor import doctor


def named(evidence, name):
    return next(f for f in evidence.findings if f.data["name"] == name)


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A folder of fake modules that new interpreters import from."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return folder


def distribution(root: Path, name: str, version: str, **files: str) -> None:
    info = root / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for path, text in files.items():
        target = root / path.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


# the whole


def test_it_says_what_is_there_and_what_is_not(tmp_path):
    evidence = doctor(store=open_store(tmp_path / "store"), import_runtimes=False)
    assert evidence.kind == "doctor"
    assert evidence.verdict is Verdict.PASS
    assert named(evidence, "python").data["state"] == "works"
    assert named(evidence, "store").data["state"] == "works"
    absent = [f for f in evidence.findings if f.data["area"] == "runtime" and f.data["state"] == "missing"]
    assert all(f.fix.startswith(("pip install", "regraft doctor --environment")) for f in absent)
    assert evidence_from_json(evidence.to_json()) == evidence
    assert "Environment" in human_text(evidence, color=False)


def test_nothing_heavy_is_imported_here():
    code = (
        "import sys; from regraft.workflow.doctor import doctor; doctor(import_runtimes=True);"
        "print([m for m in ('torch', 'numpy', 'onnx', 'rich', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=300)
    assert done.stdout.strip() == b"[]"


def test_a_store_that_cannot_be_written_fails(tmp_path):
    place = tmp_path / "store"
    place.write_text("a file, not a folder")
    evidence = doctor(store=open_store(place), import_runtimes=False)
    assert evidence.verdict is Verdict.FAIL
    assert evidence.outcome == "broken"
    assert named(evidence, "store").severity is Severity.HIGH


def test_a_newer_store_says_so(tmp_path):
    store = open_store(tmp_path / "store")
    store.put_blob([b"x"])
    version = tmp_path / "store" / "version"
    version.chmod(0o644)
    version.write_text("regraft-store 999\n")
    found = named(doctor(store=open_store(tmp_path / "store"), import_runtimes=False), "store")
    assert "999" in found.message
    assert "--upgrade" in found.fix


def test_reindex_rebuilds_the_index_from_the_evidence(tmp_path):
    store = open_store(tmp_path / "store")
    for word in ("a", "b", "c"):
        draft = Draft("scan", parameters={"word": word})
        store.put_evidence(doctor_subject(draft).finish(outcome="clean", summary=word))
    (tmp_path / "store" / "index.sqlite").write_bytes(b"no database")
    found = named(doctor(store=store, reindex=True, import_runtimes=False), "index")
    assert found.data["state"] == "works"
    assert "rebuilt, 3 pieces" in found.message


def doctor_subject(draft):
    from regraft.record.digest import digest_bytes
    from regraft.record.evidence import Subject

    draft.subject.append(Subject("x", digest_bytes(b"x")))
    return draft


# imports that go wrong


def test_an_import_that_works(modules):
    (modules / "fine.py").write_text("VALUE = 1\n")
    assert checks.try_import("fine", timeout_s=30) is None
    assert checks.try_import("fine", attribute="VALUE", timeout_s=30) is None
    assert "AttributeError" in checks.try_import("fine", attribute="OTHER", timeout_s=30)


def test_an_import_that_fails_says_why(modules):
    (modules / "bad.py").write_text("raise ImportError('undeclared typing_extensions')\n")
    assert "undeclared typing_extensions" in checks.try_import("bad", timeout_s=30)


def test_an_import_that_crashes_is_survived(modules):
    (modules / "crash.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert "SIGSEGV" in checks.try_import("crash", timeout_s=30)


def test_an_import_that_hangs_is_ended(modules):
    (modules / "hang.py").write_text("import time\ntime.sleep(60)\n")
    assert "did not end" in checks.try_import("hang", timeout_s=1)


def test_modules_in_the_current_folder_are_not_run(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("open('ran', 'w')\n")
    monkeypatch.chdir(tmp_path)
    checks.try_import("torch", timeout_s=60)
    assert not (tmp_path / "ran").exists()


def test_a_broken_plug_in_shows_its_reason_and_breaks_nothing(modules, tmp_path, monkeypatch):
    distribution(modules, "someplugin", "1.0")
    points = modules / "someplugin-1.0.dist-info" / "entry_points.txt"
    points.write_text("[regraft.runtimes]\nodd = no_such_module_here:Runtime\n")
    monkeypatch.syspath_prepend(str(modules))
    evidence = doctor(store=open_store(tmp_path / "store"), import_runtimes=False)
    found = named(evidence, "odd")
    assert "no_such_module_here" in found.message
    assert "someplugin" in found.fix
    assert evidence.verdict is Verdict.PASS
    assert evidence.outcome == "impaired"


# the torchvision trap


@pytest.mark.parametrize(
    ("torch_cuda", "vision_version", "state"),
    [
        ("None", "0.28.0+cu130", "broken"),
        ("None", "0.28.0+cpu", "works"),
        ("'13.0'", "0.28.0+cu130", "works"),
    ],
)
def test_a_torchvision_for_another_device_is_seen_without_importing_it(tmp_path, torch_cuda, vision_version, state):
    boom = "raise SystemExit('imported')\n"
    torch = f"__version__ = '2.13.0'\ncuda: Optional[str] = {torch_cuda}\n"
    vision = f"__version__ = '{vision_version}'\n"
    distribution(tmp_path, "torch", "2.13.0", torch__version=boom, torch__init=boom)
    (tmp_path / "torch" / "version.py").write_text(torch)
    distribution(tmp_path, "torchvision", "0.28.0", torchvision__init=boom)
    (tmp_path / "torchvision" / "version.py").write_text(vision)
    found = checks.check_torchvision(search=[str(tmp_path)])
    assert found.state == state
    assert ("torchvision::nms does not exist" in found.message) == (state == "broken")


def test_a_torchvision_without_a_tag_is_told_by_what_it_links_to(tmp_path):
    distribution(tmp_path, "torch", "2.13.0+cpu")
    distribution(tmp_path, "torchvision", "0.28.0")
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "_C.so").write_bytes(b"\x7fELF\0libcudart.so.13\0")
    assert checks.check_torchvision(search=[str(tmp_path)]).state == "broken"


def test_no_torchvision_is_no_trap(tmp_path):
    assert checks.check_torchvision(search=[str(tmp_path)]) is None


# small things


def test_bytecode_that_is_not_kept_is_a_note(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = checks.check_bytecode()
    assert found.severity is Severity.LOW
    assert "unset" in found.fix


def test_a_tool_that_is_missing_says_what_needs_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = checks.check_tool("git", "git+https:// references need it")
    assert found.state == "missing"
    assert "git+https" in found.message


def test_extras_that_are_missing_name_the_command(monkeypatch):
    monkeypatch.setattr(
        "importlib.metadata.requires",
        lambda name: ["click", "no-such-thing>=1; extra == 'odd'", "click; extra == 'fine'"],
    )
    found = {check.name: check for check in checks.check_extras()}
    assert found["odd"].fix == "pip install 'regraft[odd]'"
    assert found["fine"].state == "works"


def test_a_network_that_is_not_asked_for_is_not_touched(monkeypatch, tmp_path):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "create_connection", refuse)
    evidence = doctor(store=open_store(tmp_path / "s"), import_runtimes=False)
    assert not [f for f in evidence.findings if f.data["area"] == "network"]


def test_it_says_whether_code_of_packages_can_be_confined(tmp_path, monkeypatch):
    from regraft.trust.sandbox import landlock

    monkeypatch.setattr(landlock, "abi", lambda: 0)
    lacking = named(doctor(store=open_store(tmp_path / "store"), import_runtimes=False), "sandbox")
    assert (lacking.rule, lacking.data["state"]) == ("RGD-BOX-001", "missing")
    assert "Landlock of version 3" in lacking.message
